// Salted password hashes in the form `scrypt$N$r$p$SALT$HASH` (RFC 7914), and checking against them one at a time.

import { randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto';
import { GatewayError } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';

const BASE64 = '[A-Za-z0-9+/]{16,128}={0,2}';
export const PASSWORD_HASH_PATTERN = new RegExp(
  String.raw`^scrypt\$(\d{1,7})\$(\d{1,2})\$(\d{1,2})\$(${BASE64})\$(${BASE64})$`,
);
export const PASSWORD_HASH_RULE = 'must look like scrypt$16384$8$1$SALT$HASH, salt and hash in base64';

/** 16 MB and some 50 ms on a server's core. */
const COST = { N: 16_384, r: 8, p: 1 } as const;
const HASH_BYTES = 32;
const SALT_BYTES = 16;
/** What a hash may ask of this machine. */
const MEMORY_MAX_BYTES = 64 * 1024 * 1024;

let turn: Promise<unknown> = Promise.resolve();
let waiting = 0;

/** Hashing costs much memory and a core: one at a time in the whole process. @throws GatewayError GW_THROTTLED. */
function derive(password: string, salt: Buffer, bytes: number, cost: ScryptOptions): Promise<Buffer> {
  if (waiting >= LIMITS.password_checks_waiting) {
    return Promise.reject(new GatewayError('GW_THROTTLED', 'Too many passwords wait to be checked.'));
  }
  waiting += 1;
  const derived = turn.then(
    () =>
      new Promise<Buffer>((resolve, reject) => {
        scrypt(password, salt, bytes, { ...cost, maxmem: MEMORY_MAX_BYTES }, (error, key) => {
          waiting -= 1;
          if (error === null) resolve(key);
          else reject(error);
        });
      }),
  );
  turn = derived.catch(() => {});
  return derived;
}

/** A fresh hash of a password. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(password, salt, HASH_BYTES, COST);
  return `scrypt$${COST.N}$${COST.r}$${COST.p}$${salt.toString('base64')}$${hash.toString('base64')}`;
}

/** @throws GatewayError GW_THROTTLED when too many wait. */
export async function verifyPassword(password: string, encoded: string): Promise<boolean> {
  const [, n, r, p, salt, hash] = PASSWORD_HASH_PATTERN.exec(encoded) ?? [];
  if (salt === undefined || hash === undefined) return false;
  const expected = Buffer.from(hash, 'base64');
  const derived = await derive(password, Buffer.from(salt, 'base64'), expected.length, {
    N: Number(n),
    r: Number(r),
    p: Number(p),
  });
  return timingSafeEqual(derived, expected);
}
