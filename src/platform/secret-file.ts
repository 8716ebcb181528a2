// Secrets that Fieldpost makes for itself and keeps in `<data>/secrets`, readable by the owner only.

import { chmod, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errorText, GatewayError, systemCode } from '../core/errors.ts';
import { makeDirectory, writeFileAtomic } from './files.ts';
import { systemRandom } from './random.ts';

/** 36^40 possibilities, about 206 bits. */
const SECRET_CHARS = 40;
const OWNER_ONLY = 0o600;

/**
 * The text of `<data>/secrets/<name>`, made at first use.
 * @throws GatewayError GW_DATA_DIRECTORY when it can be neither read nor made.
 */
export async function loadOrMakeSecret(dataDirectory: string, name: string): Promise<string> {
  const path = join(dataDirectory, 'secrets', name);
  try {
    return (await readSecret(path)) ?? (await makeSecret(path));
  } catch (error) {
    throw new GatewayError(
      'GW_DATA_DIRECTORY',
      `The secret in "${path}" can be neither read nor made: ${errorText(error)}. Check the owner and the permissions of its directory.`,
      { cause: error },
    );
  }
}

/** Undefined when there is none, or an empty one. Takes away what others may do with it. */
async function readSecret(path: string): Promise<string | undefined> {
  try {
    const text = (await readFile(path, 'utf8')).trim();
    if (text === '') return undefined;
    await chmod(path, OWNER_ONLY);
    return text;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function makeSecret(path: string): Promise<string> {
  const secret = systemRandom.id(SECRET_CHARS);
  await makeDirectory(dirname(path), 0o700);
  await writeFileAtomic(path, `${secret}\n`, { mode: OWNER_ONLY });
  return secret;
}
