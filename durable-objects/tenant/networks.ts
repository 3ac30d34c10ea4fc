import ipaddr from 'ipaddr.js'

/** Whether an address, as text, is one of some; '' where it is not known. */
export type AddressTest = (address: string) => boolean

type Network = [address: ipaddr.IPv4 | ipaddr.IPv6, bits: number]

/** Bits in front of an IPv4 address that is written as IPv6: `::ffff:10.0.0.1`. */
const MAPPED_BITS = 96

/** Whether a text is an address, or a network (CIDR), of either version of IP. */
export const isNetwork = (text: string): boolean => networkOf(text) !== null

/**
 * Whether an address is one of these, or in one of these networks. An IPv4 address is the same however
 * it is written: `10.0.0.1` and `::ffff:10.0.0.1`. An address that is not known, or is none, is in no
 * network; a network that is none holds nothing.
 */
export function addressTest(networks: readonly string[]): AddressTest {
  const all = networks.map(networkOf).filter((network) => network !== null)
  // A client rarely moves, and to read an address costs more than all the rest of an admission.
  let [last, allowed] = ['', false]
  return (text) => {
    if (text === last) return allowed
    const address = addressOf(text)
    last = text
    allowed = address !== null && all.some((network) => holds(network, address))
    return allowed
  }
}

function holds([first, bits]: Network, address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  return first.kind() === address.kind() && address.match(first, bits)
}

function networkOf(text: string): Network | null {
  const slash = text.lastIndexOf('/')
  const address = addressOf(slash === -1 ? text : text.slice(0, slash))
  if (!address) return null
  const most = address.kind() === 'ipv4' ? 32 : 128
  if (slash === -1) return [address, most]
  const said = text.slice(slash + 1)
  if (!/^\d{1,3}$/.test(said)) return null
  const mapped = most === 32 && text.includes(':')
  const bits = Number(said) - (mapped ? MAPPED_BITS : 0)
  return bits >= 0 && bits <= most ? [address, bits] : null
}

/** Four decimal numbers or IPv6, nothing else: some read `010.0.0.1` as octal, others do not. */
function addressOf(text: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  const valid = text.includes(':') ? ipaddr.IPv6.isValid(text) : isDecimal(text)
  return valid ? ipaddr.process(text) : null
}

const isDecimal = (text: string): boolean => ipaddr.IPv4.isValidFourPartDecimal(text)
