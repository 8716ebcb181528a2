// Randomness as a service, so that tests own it.

import { randomBytes, randomUUID } from 'node:crypto';

export interface Random {
  /** At least 0, below 1. */
  fraction(): number;
  /** Lower-case base 36 text of that many characters, from the system's generator. */
  id(chars: number): string;
}

export const systemRandom: Random = {
  fraction: () => Math.random(),
  id(chars) {
    const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';
    let text = '';
    while (text.length < chars) {
      for (const byte of randomBytes(chars)) {
        // 252 = 7 * 36: bytes above would favour some letters.
        if (byte < 252 && text.length < chars) text += alphabet[byte % 36];
      }
    }
    return text;
  },
};

/** A new shared key: base64 of 32 bytes. */
export function randomKey(): string {
  return randomBytes(32).toString('base64');
}

/** A new version 4 UUID in text form (RFC 9562). */
export function randomUuid(): string {
  return randomUUID();
}

/** `ms` spread evenly over `ms * (1 - spread)` to `ms * (1 + spread)`. */
export function jitter(ms: number, spread: number, random: Random): number {
  return ms * (1 - spread + 2 * spread * random.fraction());
}
