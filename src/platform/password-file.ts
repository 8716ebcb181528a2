// Salted hashes of the passwords that stand in clear in the configuration: one file for each part that has such clients,
// `secrets/passwords/OWNER.json` of the data directory, readable by its owner only.
//
// Whether a stored hash still fits costs as much as making one. Anything that told it faster (a digest, even a keyed one
// whose key is in the same folder) would let whoever takes the files guess as fast.

import { chmod, readdir, readFile, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { isGatewayError, systemCode } from '../core/errors.ts';
import { abortable } from './abort.ts';
import { makeDirectory, writeFileAtomic } from './files.ts';
import { hashPassword, PASSWORD_HASH_PATTERN, verifyPassword } from './password.ts';

const SUFFIX = '.json';
/** Pause when logins take all turns for the slow hash. */
const BUSY_MS = 1000;

export interface PasswordFileOptions {
  readonly dataDirectory: string;
  /** Whose clients they are: a name that may be a file's. */
  readonly owner: string;
  /** Clear passwords by user name: all that the owner has now. */
  readonly passwords: ReadonlyMap<string, string>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Told of each hash once it is known to fit. */
  readonly onHash: (username: string, encoded: string) => void;
}

/**
 * Brings the file of one owner in step with its passwords, one slow hash after the other: a hash that fits stays, another
 * is made anew, one whose client is gone is removed. An abort ends it early; what was hashed until then is kept.
 * @throws Error of the file system.
 */
export async function keepPasswordHashes(options: PasswordFileOptions): Promise<void> {
  const { dataDirectory, owner, passwords, signal, onHash } = options;
  const path = join(folderOf(dataDirectory), `${owner}${SUFFIX}`);
  const stored = await readHashes(path);
  const kept = new Map([...stored].filter(([username]) => passwords.has(username)));
  if (kept.size < stored.size) await writeHashes(path, kept);
  let isChanged = false;
  try {
    for (const [username, password] of passwords) {
      const known = kept.get(username);
      const fits = known !== undefined && (await whenFree(options, () => verifyPassword(password, known)));
      const encoded = fits ? known : await whenFree(options, () => hashPassword(password));
      isChanged ||= !fits;
      kept.set(username, encoded);
      onHash(username, encoded);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    if (isChanged) await writeHashes(path, kept);
  }
}

/** Removes the files of owners that are not among these. @throws Error of the file system. */
export async function removePasswordFiles(dataDirectory: string, owners: ReadonlySet<string>): Promise<void> {
  const folder = folderOf(dataDirectory);
  for (const name of (await readdir(folder).catch(unlessAbsent)) ?? []) {
    if (name.endsWith(SUFFIX) && !owners.has(name.slice(0, -SUFFIX.length))) await unlink(join(folder, name));
  }
}

function folderOf(dataDirectory: string): string {
  return join(dataDirectory, 'secrets', 'passwords');
}

/** Waits while more logins than may wait are before us. */
async function whenFree<T>({ clock, signal }: PasswordFileOptions, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await abortable(work(), signal);
    } catch (error) {
      if (!isGatewayError(error, 'GW_THROTTLED')) throw error;
      await clock.sleep(BUSY_MS, signal);
    }
  }
}

/** What cannot be read as hashes is made anew. */
async function readHashes(path: string): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(path, 'utf8').catch(unlessAbsent);
  if (text === undefined) return new Map();
  await chmod(path, 0o600);
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch {
    return new Map();
  }
  const entries: [string, unknown][] = Object.entries(typeof values === 'object' && values !== null ? values : {});
  return new Map(
    entries.filter(
      (entry): entry is [string, string] => typeof entry[1] === 'string' && PASSWORD_HASH_PATTERN.test(entry[1]),
    ),
  );
}

async function writeHashes(path: string, hashes: ReadonlyMap<string, string>): Promise<void> {
  if (hashes.size === 0) return unlink(path);
  await makeDirectory(dirname(dirname(path)), 0o700);
  await makeDirectory(dirname(path), 0o700);
  await writeFileAtomic(path, `${JSON.stringify(Object.fromEntries(hashes), undefined, 2)}\n`, { mode: 0o600 });
}

function unlessAbsent(error: unknown): undefined {
  if (systemCode(error) !== 'ENOENT') throw error;
}
