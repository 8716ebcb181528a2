// What a part may listen on. One piece for every schema, so that each refuses the same slips of the keyboard.

import { z } from 'zod';

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
