// Secrets sealed at rest: AES-256-GCM (NIST SP 800-38D) under one master key, which is `secrets/master.key` of the data
// directory (0600, made at first use) or the systemd credential `fieldpost-master-key`.
//
// A key that was lost is never replaced by a new one in silence: once something may be sealed, `master-key.id` beside the
// secrets says by which key, and without that key this fails.

import { createCipheriv, createDecipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatewayError, systemCode } from '../core/errors.ts';
import { makeDirectory, writeFileAtomic } from './files.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const CREDENTIAL = 'fieldpost-master-key';
const SEALED = /^sealed:1:([0-9a-f]{16}):([A-Za-z0-9_-]+)$/;

export interface Sealer {
  /** Tells keys apart: 16 hexadecimal digits of the key's hash. */
  readonly keyId: string;
  /**
   * Text `sealed:1:{key id}:{base64url}`. Fresh for each call.
   * @param context where it belongs (`hub/d/meter-1/primary`): it opens there only, so that records cannot be swapped.
   */
  seal(secret: string, context: string): string;
  /** @throws GatewayError GW_SEALED: another key, another context, or damaged. */
  unseal(sealed: string, context: string): string;
}

export interface SealerOptions {
  readonly dataDirectory: string;
  /** Names the directory of systemd credentials. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Reads the master key, or makes it where nothing was ever sealed.
 * @throws GatewayError GW_SEALED when the key is gone or is another one; Error of the file system.
 */
export async function openSealer(options: SealerOptions): Promise<Sealer> {
  const folder = join(options.dataDirectory, 'secrets');
  const idPath = join(options.dataDirectory, 'master-key.id');
  const knownId = (await readFile(idPath, 'utf8').catch(unlessAbsent))?.trim();
  const found = (await readCredential(options.env)) ?? (await readKey(join(folder, 'master.key')));
  if (found === undefined && knownId !== undefined) throw lost(folder, knownId, idPath);
  const key = found ?? (await makeKey(folder));
  const keyId = idOf(key);
  if (knownId !== undefined && knownId !== keyId) throw foreign(keyId, knownId, idPath);
  // After the key and before anything is sealed, so that a crash between leaves nothing that cannot be opened.
  if (knownId === undefined) await writeFileAtomic(idPath, `${keyId}\n`);
  return createSealer(key);
}

/** A sealer by a key of 32 bytes. */
export function createSealer(key: Uint8Array): Sealer {
  const keyId = idOf(key);
  // As bytes it would be made one for each call, which takes longer than all the rest.
  const secretKey = createSecretKey(key);
  return {
    keyId,
    seal(secret, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', secretKey, nonce).setAAD(Buffer.from(context));
      const sealed = Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return `sealed:1:${keyId}:${sealed.toString('base64url')}`;
    },
    unseal(sealed, context) {
      const [, id, text = ''] = SEALED.exec(sealed) ?? [];
      if (id === undefined) throw new GatewayError('GW_SEALED', `What is kept at ${context} is no sealed secret.`);
      if (id !== keyId) {
        throw new GatewayError(
          'GW_SEALED',
          `The secret at ${context} was sealed with the master key ${id}, not with ${keyId}. Put back that key.`,
        );
      }
      const bytes = Buffer.from(text, 'base64url');
      const tagAt = bytes.length - TAG_BYTES;
      try {
        const decipher = createDecipheriv('aes-256-gcm', secretKey, bytes.subarray(0, NONCE_BYTES))
          .setAAD(Buffer.from(context))
          .setAuthTag(bytes.subarray(tagAt));
        return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, tagAt)), decipher.final()]).toString('utf8');
      } catch (cause) {
        throw new GatewayError('GW_SEALED', `The secret at ${context} is damaged or belongs elsewhere.`, { cause });
      }
    },
  };
}

function idOf(key: Uint8Array): string {
  return createHash('sha256').update('fieldpost-master-key').update(key).digest('hex').slice(0, 16);
}

async function readCredential(env: SealerOptions['env']): Promise<Uint8Array | undefined> {
  const folder = env['CREDENTIALS_DIRECTORY'];
  return folder === undefined || folder === '' ? undefined : readKey(join(folder, CREDENTIAL));
}

/** 32 bytes, or their base64 as text. */
async function readKey(path: string): Promise<Uint8Array | undefined> {
  const content = await readFile(path).catch(unlessAbsent);
  if (content === undefined) return undefined;
  if (content.byteLength === KEY_BYTES) return content;
  const text = content.toString('latin1').trim();
  const key = Buffer.from(text, 'base64');
  if (key.byteLength === KEY_BYTES && /^[A-Za-z0-9+/]{43}=$/.test(text)) return key;
  throw new GatewayError(
    'GW_SEALED',
    `${path} is no master key: it must hold the base64 of 32 bytes. Put back the key.`,
  );
}

async function makeKey(folder: string): Promise<Uint8Array> {
  const key = randomBytes(KEY_BYTES);
  await makeDirectory(folder, 0o700);
  await writeFileAtomic(join(folder, 'master.key'), `${key.toString('base64')}\n`, { mode: 0o600 });
  return key;
}

function lost(folder: string, keyId: string, idPath: string): GatewayError {
  return new GatewayError(
    'GW_SEALED',
    `The master key ${keyId} is missing: neither ${join(folder, 'master.key')} nor the credential ${CREDENTIAL} is there, and ` +
      `secrets may be sealed with it. Put it back from a backup, or remove ${idPath} to begin anew without those secrets.`,
  );
}

function foreign(keyId: string, knownId: string, idPath: string): GatewayError {
  return new GatewayError(
    'GW_SEALED',
    `The master key is ${keyId}, but secrets may be sealed with ${knownId}. Put back that key, or remove ${idPath} to begin ` +
      `anew without those secrets.`,
  );
}

function unlessAbsent(error: unknown): undefined {
  if (systemCode(error) !== 'ENOENT') throw error;
}
