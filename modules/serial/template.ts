// Requests and writes as templates: text or hexadecimal bytes with `{address}`, `{value}`, `{value:FORMAT}` and `{checksum}`.
// `{{` and `}}` are braces.
//
// FORMAT of text: as printf has it, without the percent sign: `d` (whole number), `06.2f`, `04X`, `s`. FORMAT of bytes:
// int8, uint8, int16, uint16, int32, uint32, float32, float64, with `le` behind for the least significant byte first.

import type { PointValue } from '#sdk';
import type { BytesConfig } from './bytes.ts';
import { checksumBytes, type ChecksumSettings } from './checksum.ts';
import { filledWidth, type Format, formatValue, parseFormat } from './format-value.ts';

type Part =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'address' }
  | { readonly kind: 'checksum' }
  | { readonly kind: 'value'; readonly format: Format };

export interface Template {
  readonly hasValue: boolean;
  readonly hasAddress: boolean;
  readonly hasChecksum: boolean;
  /** Characters that a written text is filled up to with blanks behind it; 0: it is sent as it is. */
  readonly filledWidth: number;
  /** The bytes to send, or why the value cannot be written so. */
  render(fields: TemplateFields): Buffer | string;
}

export interface TemplateFields {
  readonly address?: Buffer | undefined;
  readonly value?: PointValue;
  readonly checksum?: ChecksumSettings | undefined;
}

const TOKEN_PATTERN = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g;

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
    filledWidth: Math.max(0, ...parts.map((part) => (part.kind === 'value' ? filledWidth(part.format) : 0))),
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
