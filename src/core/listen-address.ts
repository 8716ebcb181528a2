// What a part may listen on. One piece for every schema, so that each refuses the same slips of the keyboard.

import { z } from 'zod';
import type { Claim } from './module.ts';

const LABEL = /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/;
/** A link-local address of IPv6 may name its interface (RFC 4007 §11): `fe80::1%eth0`. */
const ZONE = /%[^\s%/]{1,15}$/;

/**
 * Whether a text has the form of an address to listen on: an IP address, or a name of a host (RFC 1123 §2.1). A name never
 * ends in digits alone: then it is a mistyped IPv4 address. Whether this machine has the address shows when it is used.
 */
export function isListenAddress(text: string): boolean {
  if (z.ipv4().safeParse(text).success) return true;
  if (text.includes(':')) return z.ipv6().safeParse(text.replace(ZONE, '')).success;
  const labels = text.split('.');
  const last = labels.at(-1) ?? '';
  return text.length <= 253 && labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(last);
}

/** An address to listen on. Every field of that kind is made of it. */
export const listenAddressSchema = z.string().refine(isListenAddress, {
  error: 'must be an IP address such as 127.0.0.1, 0.0.0.0 or ::, or the name of a host',
});

/** For `claims`: the port at `path`, on the address. */
export function listenClaim(path: Claim['path'], { address, port }: { address: string; port: number }): Claim {
  const where = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
  const message = (owner: string): string => `${where} is taken by ${owner}; choose another port`;
  return { path, key: `TCP port ${port}`, address, message };
}

/**
 * The address of a listener that must not leave the machine, where others listen on `address`: several gateways of one machine
 * stand on addresses of their own in 127.0.0.0/8.
 */
export function loopbackOf(address: string): string {
  return address === '::1' || address.startsWith('127.') ? address : '127.0.0.1';
}

/** Whether listeners on one port are in each other's way. Names of hosts are not looked up. */
export function isSameListenAddress(left: string, right: string): boolean {
  return left === right || covers(left, right) || covers(right, left);
}

/** `::` takes IPv4 as well. */
function covers(all: string, address: string): boolean {
  return all === '::' || (all === '0.0.0.0' && z.ipv4().safeParse(address).success);
}
