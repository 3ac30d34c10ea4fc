import { createServer, type AddressInfo } from 'node:net'

/** A port that was free a moment ago: for programs that cannot be asked which port they got. */
export async function ephemeralPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
