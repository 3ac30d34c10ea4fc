import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openDataDir } from '../../scripts/local/data-dir.ts'

const RUN = { url: 'http://127.0.0.1:1', apiKey: 'k', adminToken: 't', instances: [] }

let base: string
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'penstock-test-'))
})
afterEach(() => rmSync(base, { recursive: true, force: true }))

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8)

describe('openDataDir', () => {
  it('makes a directory and files that only their owner can read', () => {
    const path = join(base, 'a', 'b')
    const dir = openDataDir(path)
    dir.saveSecrets(dir.secrets())
    dir.writeLocal(RUN)
    expect(mode(path)).toBe('700')
    expect(mode(join(path, 'secrets.json'))).toBe('600')
    expect(mode(join(path, 'local.json'))).toBe('600')
  })

  it('keeps secrets from one run to the next', () => {
    const first = openDataDir(base)
    const secrets = { ...first.secrets(), apiKey: 'psk_x' }
    first.saveSecrets(secrets)
    first.release()
    expect(openDataDir(base).secrets()).toEqual(secrets)
  })

  it('makes new secrets each time until they are saved', () => {
    const dir = openDataDir(base)
    expect(dir.secrets().adminToken).not.toBe(dir.secrets().adminToken)
  })

  it('makes new secrets where a killed run left half a file', () => {
    writeFileSync(join(base, 'secrets.json'), '{"keySigningSecret": "abc')
    expect(openDataDir(base).secrets().keySigningSecret).toHaveLength(43)
  })

  it('refuses a directory that another run has, and names that run', () => {
    writeFileSync(join(base, 'lock'), '4242\n')
    const open = () => openDataDir(base, (pid) => pid === 4242)
    expect(open).toThrow(/is in use by another local run \(process 4242\)/)
  })

  it.each(['file', 'file/below'])('refuses a file, and leaves it as it is: %s', (name) => {
    const file = join(base, 'file')
    writeFileSync(file, 'mine', { mode: 0o644 })
    expect(() => openDataDir(join(base, name))).toThrow(`${file} is not a directory`)
    expect([readFileSync(file, 'utf8'), mode(file)]).toEqual(['mine', '644'])
  })

  it('refuses a place where nothing can be made', () => {
    expect(() => openDataDir('/proc/penstock/x')).toThrow('cannot keep state in /proc/penstock/x')
  })

  it('takes over from a run that is no more', () => {
    writeFileSync(join(base, 'lock'), '4242\n')
    openDataDir(base, () => false)
    expect(readFileSync(join(base, 'lock'), 'utf8')).toBe(`${process.pid}\n`)
  })

  it('does not take a process for a run only because it has the same id', () => {
    writeFileSync(join(base, 'lock'), `${process.ppid}\n`)
    expect(() => openDataDir(base)).not.toThrow()
  })

  it('removes the local.json of a run that was killed, at once', () => {
    writeFileSync(join(base, 'local.json'), '{}')
    openDataDir(base)
    expect(readdirSync(base)).not.toContain('local.json')
  })

  it('leaves neither local.json nor lock nor half-written files behind', () => {
    const dir = openDataDir(base)
    dir.writeLocal(RUN)
    expect(JSON.parse(readFileSync(join(base, 'local.json'), 'utf8'))).toEqual(RUN)
    dir.release()
    dir.release()
    expect(readdirSync(base)).toEqual([])
  })
})
