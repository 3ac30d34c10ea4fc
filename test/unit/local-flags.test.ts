import { describe, expect, it } from 'vitest'
import { parseFlags } from '../../scripts/local/flags.ts'

describe('parseFlags', () => {
  it('runs the demo on 8787, for this machine alone, when nothing is said', () => {
    expect(parseFlags([])).toEqual({
      fleet: null,
      host: '127.0.0.1',
      port: 8787,
      data: '.penstock',
      help: false,
    })
  })

  it('takes each flag', () => {
    const argv = ['--fleet', 'f.yaml', '--port', '9000', '--data', '/d', '--host', '0.0.0.0']
    expect(parseFlags(argv)).toMatchObject({
      fleet: 'f.yaml',
      host: '0.0.0.0',
      port: 9000,
      data: '/d',
    })
  })

  it.each([
    [['--port', 'abc'], '--port must be a number from 1 to 65535, not "abc"'],
    [['--port', '0'], '--port must be'],
    [['--port', '70000'], '--port must be'],
    [['--fleet', ''], '--fleet needs the name of a file'],
    [['--data', ''], '--data needs the name of a directory'],
    [['--fleet'], '--fleet'],
    [['--flet', 'x'], "Unknown option '--flet'"],
    [['fleet.yaml'], 'fleet.yaml'],
  ])('refuses %j and says why', (argv, problem) => {
    expect(parseFlags(argv)).toEqual({ problem: expect.stringContaining(problem) })
  })
})
