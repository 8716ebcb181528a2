// Secrets by reference: `!env NAME`, `!file PATH`, `!credential NAME`. The values go to the modules; whatever is shown to
// a person passes through a `SecretSet`, which knows them and puts the reference in their place.

import { readFileSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import { systemCode } from '../core/errors.ts';
import type { ConfigPath } from './fault.ts';

/** The most bytes of a file that is referred to; certificates of many authorities are read this way too. */
const SECRET_MAX_BYTES = 1_048_576;

/** Values shorter than this are hidden where they stand, but not searched for inside other text: `a` is in every word. */
const SEARCHED_CHARS = 4;

export const SECRET_TAGS = ['!env', '!file', '!credential'] as const;
export type SecretTag = (typeof SECRET_TAGS)[number];

export function isSecretTag(tag: string): tag is SecretTag {
  return (SECRET_TAGS as readonly string[]).includes(tag);
}

export interface SecretSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Relative paths of `!file` start here: the folder of the configuration file. */
  readonly directory: string;
}

export type SecretResult = { readonly value: string } | { readonly fault: string };

/** Reads what a reference points to. A trailing line end is not part of the secret. Never throws. */
export function resolveSecret(tag: SecretTag, name: string, sources: SecretSources): SecretResult {
  switch (tag) {
    case '!env': {
      const value = sources.env[name];
      if (value === undefined) return { fault: `the environment has no variable ${name}; set it and start again.` };
      return nonEmpty(value, `the environment variable ${name}`);
    }
    case '!file':
      return readSecretFile(isAbsolute(name) ? name : resolve(sources.directory, name));
    case '!credential': {
      const folder = sources.env['CREDENTIALS_DIRECTORY'];
      if (folder === undefined || folder === '') {
        return {
          fault: `there are no credentials: $CREDENTIALS_DIRECTORY is not set. Give it to the service with LoadCredential=${name}:PATH.`,
        };
      }
      if (!/^[^/]+$/.test(name) || name === '.' || name === '..') {
        return { fault: `"${name}" is not the name of a credential: it must not hold a slash.` };
      }
      return readSecretFile(join(folder, name));
    }
    default:
      return tag satisfies never;
  }
}

function readSecretFile(path: string): SecretResult {
  try {
    const facts = statSync(path);
    // A named pipe or a device would block the start.
    if (!facts.isFile()) return { fault: `${path} is not a file.` };
    if (facts.size > SECRET_MAX_BYTES)
      return { fault: `${path} has ${facts.size} bytes; the most is ${SECRET_MAX_BYTES}.` };
    return nonEmpty(readFileSync(path, 'utf8').replace(/\r?\n$/, ''), path);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return { fault: `there is no file ${path}.` };
    if (code === 'EACCES' || code === 'EPERM') return { fault: `${path} may not be read by this user.` };
    return { fault: `${path} could not be read (${code ?? 'unknown error'}).` };
  }
}

function nonEmpty(value: string, where: string): SecretResult {
  return value === '' ? { fault: `${where} is empty.` } : { value };
}

export interface SecretReference {
  readonly path: ConfigPath;
  /** As written: `!env BROKER_PASSWORD`. */
  readonly reference: string;
}

/** Knows the secrets of one loaded configuration, to keep them out of everything that is shown. */
export class SecretSet {
  readonly #byPath = new Map<string, { reference: string; value: string }>();
  readonly #references: SecretReference[] = [];

  add(path: ConfigPath, reference: string, value: string): void {
    this.#byPath.set(JSON.stringify(path), { reference, value });
    this.#references.push({ path, reference });
  }

  /** What stands at a path in the file when it is a reference, else undefined. */
  referenceAt(path: ConfigPath): string | undefined {
    return this.#byPath.get(JSON.stringify(path))?.reference;
  }

  /** Every reference, in the order of the file. */
  references(): readonly SecretReference[] {
    return this.#references;
  }

  /** The values themselves, for the redaction list of a logger. */
  values(): readonly string[] {
    return [...new Set([...this.#byPath.values()].map(({ value }) => value))];
  }

  /** Text without secrets: each value becomes its reference, passwords within URLs become `***`. */
  redactText(text: string): string {
    let redacted = text;
    // Longest first, so that a secret that contains another one is replaced whole.
    const known = [...this.#byPath.values()].sort((a, b) => b.value.length - a.value.length);
    for (const { reference, value } of known) {
      if (value.length >= SEARCHED_CHARS) redacted = redacted.replaceAll(value, reference);
      else redacted = redacted.replaceAll(JSON.stringify(value), reference);
    }
    return redactUrls(redacted);
  }
}

/** `mqtts://user:secret@host` becomes `mqtts://user:***@host`, up to the last @: a password may hold what a URL forbids. */
export function redactUrls(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]{0,20}:\/\/[^\s:/@]*):[^\s"]+@/gi, '$1:***@');
}

/** The same for a text that may be meant as a URL, however it is written: from the first colon to the last @. */
export function redactMeantUrl(text: string): string {
  return text.includes('@') ? text.replace(/^([^@]*?):(?!\/\/)[^]*@/, '$1:***@') : text;
}
