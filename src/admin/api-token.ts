// The token that programs and people show who ask the web server from elsewhere than the machine itself.

import { chmod, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatewayError, errorText, systemCode } from '../core/errors.ts';
import { makeDirectory, writeFileAtomic } from '../platform/files.ts';
import type { Random } from '../platform/random.ts';

/** 36^40 possibilities, about 206 bits. */
const TOKEN_CHARS = 40;

/**
 * The token of the data directory, made at first use, readable by the owner only.
 * @throws GatewayError GW_DATA_DIRECTORY when it can be neither read nor made.
 */
export async function loadApiToken(dataDirectory: string, random: Random): Promise<string> {
  const path = join(dataDirectory, 'secrets', 'api-token');
  try {
    const text = (await readFile(path, 'utf8')).trim();
    if (text !== '') {
      await chmod(path, 0o600);
      return text;
    }
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw unusable(path, error);
  }
  const token = random.id(TOKEN_CHARS);
  try {
    await makeDirectory(dirname(path), 0o700);
    await writeFileAtomic(path, `${token}\n`, { mode: 0o600 });
  } catch (error) {
    throw unusable(path, error);
  }
  return token;
}

function unusable(path: string, error: unknown): GatewayError {
  return new GatewayError(
    'GW_DATA_DIRECTORY',
    `The token of the web server at "${path}" can be neither read nor made: ${errorText(error)}. Check the owner and the permissions of the directory.`,
    { cause: error },
  );
}
