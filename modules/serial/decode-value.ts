// From the text of a value to the value.

import type { ValueType } from './config-decode.ts';
import type { Decoded } from './decoded.ts';

const NUMBER_PATTERN = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?$/;
const INTEGER_PATTERN = /^[+-]?\d{1,40}$/;
const HEX_PATTERN = /^(?:0[xX])?[0-9A-Fa-f]{1,16}$/;
const TRUE_WORDS: ReadonlySet<string> = new Set(['1', 'true', 'on', 'yes', 'y', 't']);
const FALSE_WORDS: ReadonlySet<string> = new Set(['0', 'false', 'off', 'no', 'n', 'f']);

/** A value of that type, or why the text is none. Blanks around it, and between sign and digits, do not count. */
export function parseValue(text: string, type: ValueType, decimalSeparator: '.' | ','): Decoded {
  if (type === 'string') return { value: text };
  const bare = text.trim();
  if (type === 'boolean') {
    const word = bare.toLowerCase();
    if (TRUE_WORDS.has(word)) return { value: true };
    return FALSE_WORDS.has(word) ? { value: false } : { bad: 'not_a_boolean' };
  }
  if (type === 'hex')
    return HEX_PATTERN.test(bare) ? whole(BigInt(`0x${bare.replace(/^0[xX]/, '')}`)) : { bad: 'not_a_number' };
  // Scales print `-  12.50`.
  const digits = bare.replace(/^([+-])\s+/, '$1');
  if (type === 'integer')
    return INTEGER_PATTERN.test(digits) ? whole(BigInt(digits.replace(/^\+/, ''))) : { bad: 'not_a_number' };
  const decimal = decimalSeparator === ',' ? digits.replace(',', '.') : digits;
  const value = NUMBER_PATTERN.test(decimal) ? Number(decimal) : Number.NaN;
  return Number.isFinite(value) ? { value } : { bad: 'not_a_number' };
}

/** Integers that a number holds exactly are numbers. */
export function whole(value: bigint): Decoded {
  const number = Number(value);
  return { value: Number.isSafeInteger(number) ? number : value };
}
