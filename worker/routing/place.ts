/** Where a request entered the network, as Cloudflare says it. */
export interface Whereabouts {
  readonly continent?: string | undefined
  /** Degrees, as text. */
  readonly longitude?: string | undefined
}

/** East of it, North America's east; the meridian that runs through the middle of the United States. */
const MIDDLE_OF_NORTH_AMERICA = -100
/** East of it, Eastern Europe: from Poland on. */
const EAST_OF_EUROPE = 19
/** The Middle East, which the continents' list counts as Asia: west of it. */
const EAST_OF_THE_MIDDLE_EAST = 63

/**
 * The Durable Object location hint nearest to where a request came in: the same words that the fleet
 * uses for a site's `region`, so that the two can be compared.
 * @returns null where Cloudflare does not say, as in a local run
 */
export function placeOf(whereabouts: Whereabouts | undefined): string | null {
  const { continent, longitude } = whereabouts ?? {}
  const east = Number(longitude ?? Number.NaN)
  switch (continent) {
    case 'NA':
      return east < MIDDLE_OF_NORTH_AMERICA ? 'wnam' : 'enam'
    case 'SA':
      return 'sam'
    case 'EU':
      return east > EAST_OF_EUROPE ? 'eeur' : 'weur'
    case 'AF':
      return 'afr'
    case 'OC':
      return 'oc'
    case 'AS':
      return east < EAST_OF_THE_MIDDLE_EAST ? 'me' : 'apac'
    case undefined:
    default:
      return null
  }
}
