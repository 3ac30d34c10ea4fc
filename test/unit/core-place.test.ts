import { describe, expect, it } from 'vitest'
import { placeOf } from '../../worker/routing/place.ts'

/** What the runtime takes for a location hint. */
const HINTS = ['wnam', 'enam', 'sam', 'weur', 'eeur', 'apac', 'oc', 'afr', 'me']

describe('where a request entered the network', () => {
  it.each([
    { city: 'San Francisco', continent: 'NA', longitude: '-122.4', place: 'wnam' },
    { city: 'New York', continent: 'NA', longitude: '-74.0', place: 'enam' },
    { city: 'São Paulo', continent: 'SA', longitude: '-46.6', place: 'sam' },
    { city: 'Lisbon', continent: 'EU', longitude: '-9.1', place: 'weur' },
    { city: 'Berlin', continent: 'EU', longitude: '13.4', place: 'weur' },
    { city: 'Warsaw', continent: 'EU', longitude: '21.0', place: 'eeur' },
    { city: 'Nairobi', continent: 'AF', longitude: '36.8', place: 'afr' },
    { city: 'Sydney', continent: 'OC', longitude: '151.2', place: 'oc' },
    { city: 'Dubai', continent: 'AS', longitude: '55.3', place: 'me' },
    { city: 'Shanghai', continent: 'AS', longitude: '121.5', place: 'apac' },
    { city: 'Mumbai', continent: 'AS', longitude: '72.9', place: 'apac' },
  ])('is $place for $city: a hint that a site can have as its region', (entered) => {
    expect(placeOf(entered)).toBe(entered.place)
    expect(HINTS).toContain(entered.place)
  })

  it.each(['NA', 'EU', 'AS', 'SA', 'AF', 'OC'])(
    'is a place of the continent where no longitude is told: %s',
    (continent) => {
      for (const longitude of [undefined, 'somewhere'])
        expect(HINTS).toContain(placeOf({ continent, longitude }))
    },
  )

  it.each([undefined, {}, { continent: 'AN' }, { continent: 'T1' }, { longitude: '13.4' }])(
    'is not guessed where nothing says: %j',
    (entered) => {
      expect(placeOf(entered)).toBeNull()
    },
  )
})
