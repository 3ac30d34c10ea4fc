import { describe, expect, it } from 'vitest'
import { findSecrets } from '../../scripts/local/secrets.ts'

describe('findSecrets', () => {
  it('believes the environment before .dev.vars', () => {
    const { found } = findSecrets(['A', 'B'], { A: 'env' }, 'A=file\nB="in file"\n')
    expect(found).toEqual({ A: 'env', B: 'in file' })
  })

  it('names what is missing or empty', () => {
    const { missing } = findSecrets(['A', 'B', 'C'], { B: '' }, 'C=x')
    expect(missing).toEqual(['A', 'B'])
  })

  it('passes on no secret that the fleet does not name', () => {
    const { found } = findSecrets(['A'], { A: '1', ADMIN_TOKEN: 'mine' }, 'OTHER=2')
    expect(found).toEqual({ A: '1' })
  })
})
