// YAML text to plain values, with the line of every key, secrets resolved and everything that YAML allows but a
// configuration has no use for refused: several documents, unknown tags, keys that are no text, endless aliases.

import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
} from 'yaml';
import { LIMITS } from '../core/limits.ts';
import { type ConfigPath, type LocatedFault, pathText } from './fault.ts';
import { migrateDocument } from './migrate.ts';
import { isSecretTag, resolveSecret, SECRET_TAGS, SecretSet, type SecretSources } from './secrets.ts';

/** Deeper nesting than any real configuration has; ends alias cycles too. */
const MAX_DEPTH = 32;

export interface ConfigDocument {
  /** Plain data; `{}` for an empty file. Only meaningful without faults of the syntax. */
  readonly value: unknown;
  readonly secrets: SecretSet;
  /** Faults of syntax, tags, keys and secrets. */
  readonly faults: readonly LocatedFault[];
  /** Those of the faults that are secrets which could not be read. */
  readonly unresolved: readonly LocatedFault[];
  /** Whether the text could be read at all; without it `value` is not to be checked. */
  readonly readable: boolean;
  /** Set when the text was of an older version: that version, and the text of now. */
  readonly migrated?: { readonly from: number; readonly text: string };
  /** Line of the value at a path, or of the nearest thing above it that exists. From 1. */
  line(path: ConfigPath): number;
  /** Line of the key itself, for keys that should not be there. */
  keyLine(path: ConfigPath): number;
}

/** The tags as the parser has to know them; their meaning is given while walking, where the path is known. */
export const SECRET_YAML_TAGS = SECRET_TAGS.map((tag) => ({ tag, resolve: (text: string) => text }));

/** Sentences for what people get wrong most; others keep the parser's words. */
const SYNTAX_MESSAGES: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'a tab at the start of a line; YAML is indented with spaces.',
  MULTIPLE_DOCS: 'a second document starts here; a configuration is one document, so remove the line `---`.',
};

/** Brings a document to the version of now; gives back the version that it had, when it was older. */
export type DocumentMigration = (document: Document) => number | undefined;

/** @param file what faults call the file. */
export function parseConfigText(
  text: string,
  file: string,
  sources: SecretSources,
  migration: DocumentMigration = migrateDocument,
): ConfigDocument {
  const bytes = Buffer.byteLength(text);
  if (bytes > LIMITS.config_bytes) {
    return unreadable(file, `the file has ${bytes} bytes; the most is ${LIMITS.config_bytes}.`);
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, {
    lineCounter,
    prettyErrors: false,
    uniqueKeys: false,
    customTags: SECRET_YAML_TAGS,
  });
  const lineAt = (offset: number): number => Math.max(1, lineCounter.linePos(offset).line);
  const faults: LocatedFault[] = [];
  for (const problem of [...document.errors, ...document.warnings]) {
    const message = SYNTAX_MESSAGES[problem.code] ?? syntaxMessage(problem.code, problem.message);
    faults.push({ file, line: lineAt(problemOffset(document, problem)), path: [], message });
  }
  const from = document.errors.length === 0 ? migration(document) : undefined;
  const walker = new Walker(document, file, lineAt, sources);
  const readable = document.errors.length === 0;
  const value = readable ? (walker.value(document.contents, [], 0, false) ?? {}) : {};
  const locate = createLocator(document, lineAt);
  return {
    value,
    secrets: walker.secrets,
    faults: [...faults, ...walker.faults],
    unresolved: walker.unresolved,
    readable,
    ...(from === undefined ? {} : { migrated: { from, text: String(document) } }),
    line: (path) => locate(path, 'value'),
    keyLine: (path) => locate(path, 'key'),
  };
}

/** Where to look: a quote that is not closed is found at the end of the file, but was opened somewhere. */
function problemOffset(document: Document, problem: { code: string; pos: [number, number] }): number {
  let offset = problem.pos[0];
  if (problem.code !== 'MISSING_CHAR') return offset;
  visit(document, {
    Scalar(_key, node) {
      const quoted = node.type === 'QUOTE_DOUBLE' || node.type === 'QUOTE_SINGLE';
      if (quoted && (node.range?.[1] ?? 0) >= problem.pos[0]) offset = Math.min(offset, startOf(node));
    },
  });
  return offset;
}

function unreadable(file: string, message: string): ConfigDocument {
  const secrets = new SecretSet();
  const faults = [{ file, line: 1, path: [], message }];
  return { value: {}, secrets, faults, unresolved: [], readable: false, line: () => 1, keyLine: () => 1 };
}

function syntaxMessage(code: string, message: string): string {
  if (code === 'TAG_RESOLVE_FAILED') {
    return `${message.replace(/^Unresolved tag: /, 'unknown tag ')}; allowed: ${SECRET_TAGS.join(', ')}, each before one text.`;
  }
  return `not valid YAML: ${message.replaceAll('\n', ' ')}${message.endsWith('.') ? '' : '.'}`;
}

/** Builds the plain value. Own walk and not `toJS`, because secrets, key types and aliases are judged by path. */
class Walker {
  readonly secrets = new SecretSet();
  readonly faults: LocatedFault[] = [];
  readonly unresolved: LocatedFault[] = [];
  readonly #document: Document;
  readonly #file: string;
  readonly #lineAt: (offset: number) => number;
  readonly #sources: SecretSources;
  #aliasNodes = 0;

  constructor(document: Document, file: string, lineAt: (offset: number) => number, sources: SecretSources) {
    this.#document = document;
    this.#file = file;
    this.#lineAt = lineAt;
    this.#sources = sources;
  }

  value(node: unknown, path: ConfigPath, depth: number, inAlias: boolean): unknown {
    if (node === null || node === undefined) return null;
    if (depth > MAX_DEPTH) return this.#fault(node, path, `nested more than ${MAX_DEPTH} deep.`);
    if (inAlias) {
      this.#aliasNodes += 1;
      if (this.#aliasNodes > LIMITS.config_alias_nodes) {
        // Told once: the count stays above the bound for all that follows.
        if (this.#aliasNodes > LIMITS.config_alias_nodes + 1) return null;
        return this.#fault(
          node,
          path,
          `aliases (*name) stand for more than ${LIMITS.config_alias_nodes} values; write them out.`,
        );
      }
    }
    if (isAlias(node)) {
      const target = node.resolve(this.#document);
      if (target === undefined)
        return this.#fault(node, path, `*${node.source} names no anchor (&${node.source}) above it.`);
      return this.value(target, path, depth + 1, true);
    }
    if (isMap(node)) return this.#map(node.items, path, depth, inAlias);
    if (isSeq(node)) return node.items.map((item, index) => this.value(item, [...path, index], depth + 1, inAlias));
    if (isScalar(node)) return this.#scalar(node, path);
    // A migration may put plain values into the document.
    return node;
  }

  #map(items: readonly Pair[], path: ConfigPath, depth: number, inAlias: boolean): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const lines = new Map<string, number>();
    for (const { key, value } of items) {
      const name = keyText(key);
      if (name === undefined) {
        this.#fault(key, path, 'a key must be a plain text.');
        continue;
      }
      if (name === '__proto__') {
        this.#fault(key, [...path, name], 'is not allowed as a name.');
        continue;
      }
      const line = this.#lineOf(key);
      const first = lines.get(name);
      if (first !== undefined) {
        this.#fault(key, [...path, name], `stands twice, first in line ${first}; remove or rename one.`);
        continue;
      }
      lines.set(name, line);
      result[name] = this.value(value, [...path, name], depth + 1, inAlias);
    }
    return result;
  }

  #scalar(node: { tag?: string | undefined; value: unknown }, path: ConfigPath): unknown {
    if (node.tag === undefined || !isSecretTag(node.tag)) return node.value;
    const name = String(node.value).trim();
    const reference = `${node.tag} ${name}`;
    if (name === '') return this.#fault(node, path, `${node.tag} needs a name after it.`);
    const result = resolveSecret(node.tag, name, this.#sources);
    if ('fault' in result) {
      this.#fault(node, path, `${reference}: ${result.fault}`);
      this.unresolved.push(...this.faults.slice(-1));
      // Anything but undefined: the field is there, and the one fault about it is enough.
      this.secrets.add(path, reference, UNRESOLVED);
      return UNRESOLVED;
    }
    this.secrets.add(path, reference, result.value);
    return result.value;
  }

  #lineOf(node: unknown): number {
    const range = (node as Partial<Node> | null)?.range;
    return this.#lineAt(range?.[0] ?? 0);
  }

  #fault(node: unknown, path: ConfigPath, message: string): null {
    this.faults.push({ file: this.#file, line: this.#lineOf(node), path, message });
    return null;
  }
}

/** Stands in for a secret that could not be read, so that checking goes on; never leaves this folder. */
export const UNRESOLVED = 'unresolved-secret';

function keyText(key: unknown): string | undefined {
  // A migration may put plain keys into the document.
  if (typeof key === 'string') return key;
  if (!isScalar(key)) return undefined;
  // Device ids such as 7 are keys too.
  if (typeof key.value === 'string') return key.value;
  if (typeof key.value === 'number' || typeof key.value === 'boolean') return key.source ?? String(key.value);
  return undefined;
}

/** Finds lines by path, each at most once by hand: a file with many faults is still quick. */
function createLocator(
  document: Document,
  lineAt: (offset: number) => number,
): (path: ConfigPath, what: 'key' | 'value') => number {
  const cache = new Map<string, number>();
  return (path, what) => {
    const id = `${what} ${pathText(path)}`;
    const known = cache.get(id);
    if (known !== undefined) return known;
    const line = lineAt(offsetOf(document, path, what));
    cache.set(id, line);
    return line;
  };
}

function offsetOf(document: Document, path: ConfigPath, what: 'key' | 'value'): number {
  let node: unknown = document.contents;
  let offset = isMap(node) && node.items.length > 0 ? startOf(node.items[0]?.key) : startOf(node);
  for (const [index, step] of path.entries()) {
    if (isAlias(node)) {
      // What an alias stands for is told at the alias: that is where a person has to look.
      return offset;
    }
    if (isMap(node)) {
      const pair = node.items.find((item) => keyText(item.key) === String(step));
      if (pair === undefined) return offset;
      const last = index === path.length - 1;
      const block = isMap(pair.value) || isSeq(pair.value) || pair.value === null || pair.value === undefined;
      offset = (last && what === 'key') || block ? startOf(pair.key) : startOf(pair.value);
      node = pair.value;
    } else if (isSeq(node)) {
      const item: unknown = typeof step === 'number' ? node.items[step] : undefined;
      if (item === undefined) return offset;
      offset = startOf(item);
      node = item;
    } else return offset;
  }
  return offset;
}

function startOf(node: unknown): number {
  return (node as Partial<Node> | null | undefined)?.range?.[0] ?? 0;
}
