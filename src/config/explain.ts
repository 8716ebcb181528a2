// Zod's issues as sentences for a person: what was found, what is allowed, and the word that was probably meant.

import type { z } from 'zod';
import type { ConfigPath } from './fault.ts';
import {
  allowedKeys,
  allowedValues,
  discriminatorValues,
  isRecord,
  metaOf,
  schemaAt,
  unwrap,
  definitionOf,
} from './describe.ts';
import { nearest } from './nearest.ts';
import { redactMeantUrl, type SecretSet } from './secrets.ts';

export interface Explained {
  readonly path: ConfigPath;
  readonly message: string;
  /** Whether the fault is the key (shown at the key's line) or its value. */
  readonly at: 'key' | 'value';
}

export interface ExplainContext {
  readonly schema: z.core.$ZodType;
  /** What was checked. */
  readonly value: unknown;
  /** Path of `value` in the file. */
  readonly prefix: ConfigPath;
  readonly secrets: SecretSet;
  /** Keys that are allowed at the top beside the schema's own. */
  readonly moreKeys?: readonly string[];
}

type Issue = z.core.$ZodIssue;

/** The most characters of a value that a message repeats. */
const QUOTED_CHARS = 60;

export function explainIssues(issues: readonly Issue[], context: ExplainContext): Explained[] {
  return issues.flatMap((issue) => explain(issue, issue.path as ConfigPath, context));
}

function explain(issue: Issue, path: ConfigPath, context: ExplainContext): Explained[] {
  const full = [...context.prefix, ...path];
  if (issue.code === 'unrecognized_keys') return unknownKeys(issue.keys, path, context);
  if (issue.code === 'invalid_key') {
    // The first rule that it breaks is enough.
    const reason = sentence(issue.issues[0]?.message ?? 'is not allowed');
    return [{ path: full, at: 'key', message: `the name ${JSON.stringify(path.at(-1))} ${lowerFirst(reason)}` }];
  }
  if (issue.code === 'invalid_union') return explainUnion(issue, path, context);
  return [{ path: full, at: 'value', message: message(issue, path, context) }];
}

function unknownKeys(keys: readonly string[], path: ConfigPath, context: ExplainContext): Explained[] {
  const parent = valueAt(context.value, path);
  const schema = schemaAt(context.schema, path, context.value);
  const allowed = schema === undefined ? [] : (allowedKeys(schema, parent) ?? []);
  const words = path.length === 0 ? [...allowed, ...(context.moreKeys ?? [])] : allowed;
  return keys.map((key) => {
    const meant = nearest(key, words);
    const hint = meant === undefined ? '' : ` Did you mean "${meant}"?`;
    return {
      path: [...context.prefix, ...path, key],
      at: 'key' as const,
      message: `is not known here; allowed: ${words.toSorted().join(', ')}.${hint}`,
    };
  });
}

function explainUnion(issue: z.core.$ZodIssueInvalidUnion, path: ConfigPath, context: ExplainContext): Explained[] {
  const full = [...context.prefix, ...path];
  const schema = schemaAt(context.schema, path, context.value);
  const union = schema === undefined ? undefined : definitionOf(unwrap(schema));
  // Zod puts the path of a bad discriminator at the discriminator itself.
  if (issue.discriminator !== undefined) {
    const ownerPath = path.at(-1) === issue.discriminator ? path.slice(0, -1) : path;
    const owner = schemaAt(context.schema, ownerPath, context.value);
    const options = owner === undefined ? [] : (definitionOf(unwrap(owner)).options ?? []);
    const discriminator = issue.discriminator;
    const allowed = options.flatMap((option) => discriminatorValues(option, discriminator));
    const found = valueAt(context.value, [...ownerPath, discriminator]);
    return [
      {
        path: [...context.prefix, ...ownerPath, discriminator],
        at: 'value',
        message: notOneOf(found, allowed, [...ownerPath, discriminator], context),
      },
    ];
  }
  const branches = issue.errors.filter((errors) => !errors.some((error) => isWrongType(error)));
  const [best] = branches.toSorted((a, b) => a.length - b.length);
  if (best !== undefined)
    return best.flatMap((error) => explain(error, [...path, ...(error.path as ConfigPath)], context));
  const value = valueAt(context.value, path);
  const kinds = (union?.options ?? []).map((option) => kindText(option));
  const allowed = [...new Set(kinds)].join(' or ');
  if (value === undefined) return [{ path: full, at: 'value', message: `is missing; it must be ${allowed}.` }];
  return [{ path: full, at: 'value', message: `must be ${allowed}; found ${describe(value, path, context)}.` }];
}

/** Whether a branch of a union failed at its very top, so that it was not the one meant. */
function isWrongType(issue: Issue): boolean {
  return issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value');
}

function message(issue: Issue, path: ConfigPath, context: ExplainContext): string {
  const value = valueAt(context.value, path);
  const found = describe(value, path, context);
  const schema = schemaAt(context.schema, path, context.value);
  const own = ownMessage(issue);
  if (value === undefined) {
    return own === undefined || issue.code !== 'custom'
      ? `is missing; ${schema === undefined ? 'it must be given' : `it must be ${kindText(schema)}`}.`
      : sentence(own);
  }
  // A rule ("must be even") wants the value beside it; a whole story told by a refinement does not.
  if (own !== undefined) return /^must\b/.test(own) ? `${ending(own)}; found ${found}.` : sentence(own);
  switch (issue.code) {
    case 'invalid_type':
      return `must be ${schema === undefined ? issue.expected : kindText(schema)}; found ${found}.${found.startsWith('what ') ? REFERENCE_HINT : typeHint(issue.expected, value)}`;
    case 'invalid_value':
      return notOneOf(value, allowedValuesOf(schema, issue.values), path, context);
    case 'too_small':
      return `must ${atLeast(issue.origin, issue.minimum, issue.inclusive ?? true)}; found ${found}.`;
    case 'too_big':
      return `must ${atMost(issue.origin, issue.maximum, issue.inclusive ?? true)}; found ${found}.`;
    case 'invalid_format':
      return `must be ${formatText(issue.format, issue.pattern)}; found ${found}.`;
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}; found ${found}.`;
    case 'custom':
    case 'unrecognized_keys':
    case 'invalid_union':
    case 'invalid_key':
    case 'invalid_element':
      return sentence(issue.message);
    default:
      return issue satisfies never;
  }
}

/** The message that the schema's author wrote, undefined when it is zod's own. */
function ownMessage(issue: Issue): string | undefined {
  if (issue.code === 'custom') return issue.message;
  return /^(Invalid|Too |Unrecognized|Expected)/.test(issue.message) ? undefined : issue.message;
}

function allowedValuesOf(schema: z.core.$ZodType | undefined, values: readonly unknown[]): readonly unknown[] {
  return (schema === undefined ? undefined : allowedValues(schema)) ?? values;
}

function notOneOf(found: unknown, allowed: readonly unknown[], path: ConfigPath, context: ExplainContext): string {
  const words = [...new Set(allowed.filter((value) => value !== undefined).map(String))];
  const list = `allowed: ${words.join(', ')}.`;
  if (found === undefined) return `is missing; ${list}`;
  const meant = typeof found === 'string' ? nearest(found, words) : undefined;
  return `${describe(found, path, context)} is not known; ${list}${meant === undefined ? '' : ` Did you mean "${meant}"?`}`;
}

/** A value as it may be shown: references for secrets, only the kind where the field is one for secrets. */
function describe(value: unknown, path: ConfigPath, context: ExplainContext): string {
  const reference = context.secrets.referenceAt([...context.prefix, ...path]);
  if (reference !== undefined) return `what ${reference} gave`;
  const schema = schemaAt(context.schema, path, context.value);
  const hidden = schema !== undefined && metaOf(schema).secret === true;
  if (value === null) return 'nothing';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isRecord(value)) return 'a map of keys';
  if (typeof value === 'string') {
    if (hidden) return 'a text';
    const text = redactMeantUrl(value);
    return JSON.stringify(text.length > QUOTED_CHARS ? `${text.slice(0, QUOTED_CHARS)}…` : text);
  }
  const shown = typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
  return shown && !hidden ? String(value) : `a ${typeof value}`;
}

/** What is allowed, in words: `a whole number`, `one of tcp, rtu`, `a map of keys`. */
export function kindText(schema: z.core.$ZodType): string {
  const inner = unwrap(schema);
  const definition = definitionOf(inner);
  const values = allowedValues(inner);
  if (values !== undefined) return values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`;
  switch (definition.type) {
    case 'string':
      return 'a text';
    case 'number':
      return isWhole(inner) ? 'a whole number' : 'a number';
    case 'bigint':
      return 'a whole number';
    case 'boolean':
      return 'true or false';
    case 'array':
    case 'tuple':
      return 'a list';
    case 'object':
    case 'record':
      return 'a map of keys';
    case 'null':
      return 'nothing';
    case 'union':
      return [...new Set((definition.options ?? []).map((option) => kindText(option)))].join(' or ');
    default:
      return 'a value';
  }
}

function isWhole(schema: z.core.$ZodType): boolean {
  return (schema as Partial<z.ZodNumber>).isInt === true || (schema as Partial<z.ZodNumber>).format === 'safeint';
}

const REFERENCE_HINT = ' References (!env, !file, !credential) give texts only: write the value itself.';

function typeHint(expected: string, value: unknown): string {
  if (expected === 'boolean' && typeof value === 'string' && /^(yes|no|on|off)$/i.test(value)) {
    return ' YAML 1.2 has true and false only.';
  }
  if (
    typeof value === 'string' &&
    /^(number|int)$/.test(expected) &&
    value.trim() !== '' &&
    Number.isFinite(Number(value))
  ) {
    return ' Write it without quotes.';
  }
  if (expected === 'string' && (typeof value === 'number' || typeof value === 'boolean')) return ' Put it in quotes.';
  return '';
}

function atLeast(origin: string, minimum: number | bigint, inclusive: boolean): string {
  if (origin === 'string') return minimum === 1 ? 'not be empty' : `have at least ${minimum} characters`;
  if (origin === 'array' || origin === 'set' || origin === 'map' || origin === 'object') {
    return minimum === 1 ? 'not be empty' : `have at least ${minimum} entries`;
  }
  return inclusive ? `be at least ${minimum}` : `be greater than ${minimum}`;
}

function atMost(origin: string, maximum: number | bigint, inclusive: boolean): string {
  if (origin === 'string') return `have at most ${maximum} characters`;
  if (origin === 'array' || origin === 'set' || origin === 'map' || origin === 'object') {
    return `have at most ${maximum} entries`;
  }
  return inclusive ? `be at most ${maximum}` : `be less than ${maximum}`;
}

const FORMATS: Readonly<Record<string, string>> = {
  url: 'a URL such as mqtts://broker.example:8883',
  ipv4: 'an IPv4 address',
  ipv6: 'an IPv6 address',
  hostname: 'a host name',
  datetime: 'a time in ISO 8601',
  uuid: 'a UUID',
};

function formatText(format: string, pattern: string | undefined): string {
  return FORMATS[format] ?? (pattern === undefined ? `a valid ${format}` : `a text that matches ${pattern}`);
}

function valueAt(value: unknown, path: ConfigPath): unknown {
  let current = value;
  for (const step of path) {
    if (!isRecord(current) && !Array.isArray(current)) return undefined;
    current = (current as Record<string | number, unknown>)[step];
  }
  return current;
}

/** One sentence with its full stop. */
export function sentence(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Without the full stop, so that it can go on. */
function ending(text: string): string {
  return text.replace(/\.$/, '');
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
