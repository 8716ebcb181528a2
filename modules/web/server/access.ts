// Who may ask: programs and people on the machine itself freely, others with the token; and only under a name of this
// machine, because a page of the internet can make a browser call 127.0.0.1 under a name of its own (DNS rebinding).

import { createHash, timingSafeEqual } from 'node:crypto';
import { BlockList, isIP, isIPv6 } from 'node:net';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');
// IPv4-mapped (RFC 4291, section 2.5.5.2): what a dual-stack socket shows for an IPv4 peer.
loopback.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

export function isLoopback(address: string | undefined): boolean {
  if (address === undefined || isIP(address) === 0) return false;
  return loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');
}

export interface Asker {
  readonly remoteAddress: string | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** Set by reverse proxies: behind one on this machine, everybody looks local. */
const FORWARDING_HEADERS = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'];

/** Whether the request comes from the machine itself. */
export function isLocal({ remoteAddress, headers }: Asker): boolean {
  return isLoopback(remoteAddress) && FORWARDING_HEADERS.every((name) => headers[name] === undefined);
}

/** Whether the request shows the token: `Bearer TOKEN` (RFC 6750), or `Basic` (RFC 7617) with it as the password. */
export function showsToken({ headers }: Asker, token: string): boolean {
  const authorization = headers['authorization'];
  if (typeof authorization !== 'string') return false;
  const [scheme = '', credentials = ''] = authorization.trim().split(/ +/, 2);
  switch (scheme.toLowerCase()) {
    case 'bearer':
      return sameSecret(credentials, token);
    case 'basic': {
      const pair = Buffer.from(credentials, 'base64').toString('utf8');
      return sameSecret(pair.slice(pair.indexOf(':') + 1), token);
    }
    default:
      return false;
  }
}

/** Compares in a time that tells nothing; the digests make the lengths equal. */
function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/**
 * Whether a Host header (RFC 9110, section 7.2) names this machine: an address (which no name server can forge),
 * `localhost`, or one of the machine's names.
 */
export function isOwnHost(host: string | undefined, names: readonly string[]): boolean {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(:\d{1,5})?$/i.exec(host ?? '');
  const name = match?.[1]?.toLowerCase().replace(/\.$/, '');
  if (name === undefined) return false;
  if (name.startsWith('[')) return isIPv6(name.slice(1, -1));
  return isIP(name) === 4 || name === 'localhost' || name.endsWith('.localhost') || names.includes(name);
}

/** The names under which a machine is called in its network: bare, and as multicast DNS has it (RFC 6762). */
export function hostNames(hostname: string, address: string): readonly string[] {
  const full = hostname.toLowerCase();
  const short = full.split('.')[0] ?? full;
  return [full, short, `${short}.local`, address.toLowerCase()];
}
