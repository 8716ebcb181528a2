// Patterns that cannot hang the gateway: RE2 syntax, matched in time linear in the text, whatever the pattern. What RE2
// leaves out (back references, look-around) is what makes other engines backtrack for ever.

import { createRequire } from 'node:module';
import type * as Re2 from 're2js';
import { errorText } from '../core/errors.ts';

/** Longest pattern of a configuration. */
export const PATTERN_MAX_CHARS = 1024;

export interface Pattern {
  /** Names of its groups, in the order of the pattern. */
  readonly groups: readonly string[];
  /** Whether it occurs in the text. */
  test(text: string): boolean;
  /** The named groups of the first match, undefined for those that took no part; undefined without a match. */
  match(text: string): Readonly<Record<string, string | undefined>> | undefined;
}

const require = createRequire(import.meta.url);

/** The pattern, or why it cannot be used. The engine is loaded with the first one. */
export function compilePattern(source: string): Pattern | string {
  const { RE2JS } = require('re2js') as typeof Re2;
  let compiled: InstanceType<typeof RE2JS>;
  try {
    compiled = RE2JS.compile(source);
  } catch (error) {
    return `is not a pattern of RE2 (${errorText(error)}); back references and look-around are not supported.`;
  }
  const groups = Object.entries(compiled.namedGroups())
    .sort(([, left], [, right]) => left - right)
    .map(([name]) => name);
  return {
    groups,
    test: (text: string) => compiled.matcher(text).find(),
    match(text: string) {
      const matcher = compiled.matcher(text);
      if (!matcher.find()) return undefined;
      return Object.fromEntries(groups.map((name) => [name, matcher.group(name) ?? undefined]));
    },
  };
}
