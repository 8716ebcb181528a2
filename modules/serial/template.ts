// Requests and writes as templates: text or hexadecimal bytes with `{address}`, `{value}`, `{value:FORMAT}` and `{checksum}`.
// `{{` and `}}` are braces.
//
// FORMAT of text: as printf has it, without the percent sign: `d` (whole number), `06.2f`, `04X`, `s`. FORMAT of bytes:
// int8, uint8, int16, uint16, int32, uint32, float32, float64, with `le` behind for the least significant byte first.

import type { PointValue } from '#sdk';
import type { BytesConfig } from './bytes.ts';
import { checksumBytes, type ChecksumSettings } from './checksum.ts';

type Part =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'address' }
  | { readonly kind: 'checksum' }
  | { readonly kind: 'value'; readonly format: Format };

type Format =
  | { readonly kind: 'plain' }
  | {
      readonly kind: 'text';
      readonly zero: boolean;
      readonly width: number;
      readonly decimals: number;
      readonly conversion: string;
    }
  | { readonly kind: 'binary'; readonly type: BinaryType; readonly isLittle: boolean };

type BinaryType = 'int8' | 'uint8' | 'int16' | 'uint16' | 'int32' | 'uint32' | 'float32' | 'float64';

export interface Template {
  readonly hasValue: boolean;
  readonly hasAddress: boolean;
  readonly hasChecksum: boolean;
  /** The bytes to send, or why the value cannot be written so. */
  render(fields: TemplateFields): Buffer | string;
}

export interface TemplateFields {
  readonly address?: Buffer | undefined;
  readonly value?: PointValue;
  readonly checksum?: ChecksumSettings | undefined;
}

const TOKEN_PATTERN = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g;
const TEXT_FORMAT_PATTERN = /^(0?)(\d{0,2})(?:\.(\d{1,2}))?([dfsxX])$/;
const BINARY_FORMAT_PATTERN = /^(int8|uint8|int16|uint16|int32|uint32|float32|float64)(le)?$/;
/** What a written text may have: nothing that could end a frame and begin another one. */
const SAFE_TEXT_PATTERN = /^[\u0020-\u007e]{0,256}$/;

const INTEGER_BYTES: Readonly<Record<string, number>> = { int8: 1, uint8: 1, int16: 2, uint16: 2, int32: 4, uint32: 4 };

/** The template, or what is wrong with it. */
export function parseTemplate(config: BytesConfig): Template | string {
  const isHex = typeof config !== 'string';
  const text = isHex ? config.hex : config;
  const parts: Part[] = [];
  let at = 0;
  const literal = (piece: string): string | undefined => {
    if (!isHex) parts.push({ kind: 'bytes', bytes: Buffer.from(piece, 'latin1') });
    else if (/^\s*(?:[0-9A-Fa-f]{2}\s*)*$/.test(piece)) {
      parts.push({ kind: 'bytes', bytes: Buffer.from(piece.replaceAll(/\s/g, ''), 'hex') });
    } else return `"${piece.trim()}" is not bytes in hexadecimal, two digits each.`;
    return undefined;
  };
  for (const match of text.matchAll(TOKEN_PATTERN)) {
    const fault = literal(text.slice(at, match.index));
    if (fault !== undefined) return fault;
    at = match.index + match[0].length;
    const part = parseToken(match[0], match[1], isHex);
    if (typeof part === 'string') return part;
    parts.push(part);
  }
  const fault = literal(text.slice(at));
  if (fault !== undefined) return fault;
  const has = (kind: Part['kind']): boolean => parts.some((part) => part.kind === kind);
  return {
    hasValue: has('value'),
    hasAddress: has('address'),
    hasChecksum: has('checksum'),
    render: (fields) => render(parts, fields),
  };
}

function parseToken(token: string, name: string | undefined, isHex: boolean): Part | string {
  if (token === '{{' || token === '}}') {
    return isHex ? 'braces are not hexadecimal.' : { kind: 'bytes', bytes: Buffer.from(token[0] ?? '', 'latin1') };
  }
  if (name === undefined) return `a single ${token} must be written ${token}${token}.`;
  if (name === 'address' || name === 'checksum') return { kind: name };
  if (name === 'value') return { kind: 'value', format: { kind: 'plain' } };
  if (!name.startsWith('value:'))
    return `{${name}} is unknown; there are {address}, {value}, {value:FORMAT} and {checksum}.`;
  const format = parseFormat(name.slice('value:'.length));
  return format === undefined
    ? `{${name}} has no known format; formats are d, 06.2f, 04X, s, or uint16, float32le and so on.`
    : { kind: 'value', format };
}

function parseFormat(text: string): Format | undefined {
  const binary = BINARY_FORMAT_PATTERN.exec(text);
  if (binary !== null) return { kind: 'binary', type: binary[1] as BinaryType, isLittle: binary[2] !== undefined };
  const printf = TEXT_FORMAT_PATTERN.exec(text);
  if (printf === null) return undefined;
  const [, zero = '', width = '', decimals, conversion = 's'] = printf;
  return {
    kind: 'text',
    zero: zero !== '',
    width: Number(width),
    decimals: decimals === undefined ? 6 : Number(decimals),
    conversion,
  };
}

function render(parts: readonly Part[], { address, value, checksum }: TemplateFields): Buffer | string {
  let bytes: Buffer = Buffer.alloc(0);
  for (const part of parts) {
    let piece: Buffer | string;
    switch (part.kind) {
      case 'bytes':
        piece = part.bytes;
        break;
      case 'address':
        piece = address ?? Buffer.alloc(0);
        break;
      case 'checksum':
        piece = checksum === undefined ? Buffer.alloc(0) : requestChecksum(checksum, bytes);
        break;
      case 'value':
        piece = formatValue(value ?? '', part.format);
    }
    if (typeof piece === 'string') return piece;
    bytes = Buffer.concat([bytes, piece]);
  }
  return bytes;
}

/** Over what was written so far. */
function requestChecksum(settings: ChecksumSettings, bytes: Buffer): Buffer {
  if (settings.kind !== 'nmea') {
    return checksumBytes(settings, bytes.subarray(settings.fromByte, bytes.length - settings.gapBytes));
  }
  // $PXYZ,1*{checksum}
  const dollar = Math.max(bytes.indexOf('$'), bytes.indexOf('!'));
  const star = bytes.lastIndexOf('*');
  return checksumBytes({ ...settings, encoding: 'hex' }, bytes.subarray(dollar + 1, star < 0 ? bytes.length : star));
}

/** The bytes of a value, or why there are none. */
function formatValue(value: PointValue, format: Format): Buffer | string {
  if (value instanceof Uint8Array) return 'bytes cannot be written here.';
  if (format.kind === 'binary') return formatBinary(value, format);
  const text = format.kind === 'plain' ? plainText(value) : formatText(value, format);
  if (text === undefined) return `${String(value)} does not fit the format of the template.`;
  return SAFE_TEXT_PATTERN.test(text)
    ? Buffer.from(text, 'latin1')
    : 'only printable ASCII of at most 256 characters may be written.';
}

function plainText(value: PointValue): string {
  return typeof value === 'boolean' ? (value ? '1' : '0') : String(value);
}

function formatText(value: PointValue, format: Extract<Format, { kind: 'text' }>): string | undefined {
  const { zero, width, decimals, conversion } = format;
  if (conversion === 's') return plainText(value).padEnd(width);
  const number = typeof value === 'boolean' ? Number(value) : value;
  if (typeof number !== 'number' && typeof number !== 'bigint') return undefined;
  let digits: string;
  if (conversion === 'f') {
    // Decimals that the format has no room for would change the value silently.
    digits = Number(number).toFixed(decimals);
    if (typeof number === 'number' && Math.abs(Number(digits) - number) > Math.abs(number) * 1e-9) return undefined;
  } else {
    if (!isWhole(number) || (conversion !== 'd' && number < 0)) return undefined;
    digits = conversion === 'd' ? number.toString() : number.toString(16);
    if (conversion === 'X') digits = digits.toUpperCase();
  }
  const padded = zero ? zeroPadded(digits, width) : digits.padStart(width);
  // A field of fixed width that overflows would shift what follows.
  return width > 0 && padded.length > width ? undefined : padded;
}

function zeroPadded(digits: string, width: number): string {
  return digits.startsWith('-') ? `-${digits.slice(1).padStart(width - 1, '0')}` : digits.padStart(width, '0');
}

function isWhole(number: number | bigint): boolean {
  return typeof number === 'bigint' || Number.isSafeInteger(number);
}

function formatBinary(value: PointValue, { type, isLittle }: Extract<Format, { kind: 'binary' }>): Buffer | string {
  const number = typeof value === 'boolean' ? Number(value) : value;
  if (typeof number !== 'number' && typeof number !== 'bigint') return `${String(value)} is not a number.`;
  if (type === 'float32' || type === 'float64') {
    const bytes = Buffer.alloc(type === 'float32' ? 4 : 8);
    if (type === 'float32') bytes.writeFloatBE(Number(number));
    else bytes.writeDoubleBE(Number(number));
    return isLittle ? bytes.reverse() : bytes;
  }
  const width = INTEGER_BYTES[type] ?? 1;
  const isSigned = !type.startsWith('u');
  const min = isSigned ? -(2 ** (width * 8 - 1)) : 0;
  const max = 2 ** (width * 8 - (isSigned ? 1 : 0)) - 1;
  if (!isWhole(number) || number < min || number > max)
    return `${String(number)} is not a whole number of ${min} to ${max}.`;
  const bytes = Buffer.alloc(width);
  if (isSigned) bytes.writeIntBE(Number(number), 0, width);
  else bytes.writeUIntBE(Number(number), 0, width);
  return isLittle ? bytes.reverse() : bytes;
}
