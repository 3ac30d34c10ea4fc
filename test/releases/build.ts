/**
 * Keeps a release's Worker for the tests of the next one:
 * `node test/releases/build.ts <version> <commit>` writes `<version>.js.gz`, minified.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { gzipSync } from 'node:zlib'
import { bundleWorker, PROJECT } from '../../scripts/local/bundle.ts'
import { fileOf } from './bundles.ts'

const LOCK = 'package-lock.json'

/** The tree of a commit in a folder of its own, with the packages that its lockfile names. */
function checkedOut(commit: string, folder: string): void {
  const tree = execFileSync('git', ['archive', commit], { cwd: PROJECT, maxBuffer: 1 << 30 })
  execFileSync('tar', ['-x', '-C', folder], { input: tree })
  const same = readFileSync(join(folder, LOCK)).equals(readFileSync(join(PROJECT, LOCK)))
  if (same) symlinkSync(join(PROJECT, 'node_modules'), join(folder, 'node_modules'))
  else execFileSync('npm', ['ci', '--omit=dev'], { cwd: folder, stdio: 'inherit' })
}

const [version, commit] = process.argv.slice(2)
if (version === undefined || commit === undefined) {
  process.stderr.write('usage: node test/releases/build.ts <version> <commit>\n')
  process.exit(1)
}
const folder = mkdtempSync(join(tmpdir(), 'penstock-release-'))
try {
  checkedOut(commit, folder)
  const entry = join(folder, 'worker/index.ts')
  const code = await bundleWorker(entry, { absWorkingDir: folder, minify: true, sourcemap: false })
  // Without a time in its header: the same commit gives the same bytes.
  const packed = gzipSync(code, { level: 9 })
  writeFileSync(fileOf(version), packed)
  process.stdout.write(`${fileOf(version)}: ${Math.ceil(packed.byteLength / 1024)} KiB\n`)
} finally {
  rmSync(folder, { recursive: true })
}
