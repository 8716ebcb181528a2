// The file that people edit.

import { readFileSync, statSync } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorText, GatewayError, isGatewayError, systemCode } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import { makeDirectory, writeFileAtomic } from '../platform/files.ts';

/** @throws GatewayError GW_CONFIG_IO; `details.missing` is true when there is no such file. */
export function readConfigFile(path: string): string {
  try {
    const facts = statSync(path);
    if (!facts.isFile()) throw new GatewayError('GW_CONFIG_IO', `${path} is not a file; give the path of a YAML file.`);
    if (facts.size > LIMITS.config_bytes) {
      throw new GatewayError('GW_CONFIG_IO', `${path} has ${facts.size} bytes; the most is ${LIMITS.config_bytes}.`);
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    throw configReadError(path, error);
  }
}

function configReadError(path: string, error: unknown): GatewayError {
  if (isGatewayError(error)) return error;
  const code = systemCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new GatewayError('GW_CONFIG_IO', `There is no configuration ${path}.`, { details: { missing: true } });
  }
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
    return new GatewayError('GW_CONFIG_IO', `${path} is not text in UTF-8; save it as UTF-8.`);
  }
  const hint = code === 'EACCES' ? ' Make it readable for the user that runs Fieldpost.' : '';
  return new GatewayError('GW_CONFIG_IO', `${path} could not be read: ${errorText(error)}.${hint}`, { cause: error });
}

/**
 * Replaces the file: durable when it resolves. A link is followed, and the permissions that a person gave are kept.
 * @throws GatewayError GW_CONFIG_IO.
 */
export async function writeConfigFile(configPath: string, text: string): Promise<void> {
  try {
    const path = await realpath(configPath).catch(() => configPath);
    const mode = await stat(path).then(
      (facts) => facts.mode & 0o777,
      () => 0o640,
    );
    await makeDirectory(dirname(path));
    await writeFileAtomic(path, text, { mode });
  } catch (error) {
    throw new GatewayError(
      'GW_CONFIG_IO',
      `${configPath} could not be written: ${errorText(error)}. Make the file and its folder writable for the user that runs Fieldpost.`,
      { cause: error },
    );
  }
}
