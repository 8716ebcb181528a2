// A value as the text or bytes that a template wants: exactly, or not at all. Commands move machines, so nothing is rounded,
// cut off or sent in a notation that an instrument reads otherwise (1e21 is 1 to whoever reads digits).

import type { PointValue } from '#sdk';

export type Format = { readonly kind: 'plain' } | TextFormat | BinaryFormat;

interface TextFormat {
  readonly kind: 'text';
  readonly zero: boolean;
  readonly width: number;
  readonly decimals: number;
  readonly conversion: string;
}

interface BinaryFormat {
  readonly kind: 'binary';
  readonly type: BinaryType;
  readonly isLittle: boolean;
}

type BinaryType = 'int8' | 'uint8' | 'int16' | 'uint16' | 'int32' | 'uint32' | 'float32' | 'float64';

const TEXT_FORMAT_PATTERN = /^(0?)(\d{0,2})(?:\.(\d{1,2}))?([dfsxX])$/;
const BINARY_FORMAT_PATTERN = /^(int8|uint8|int16|uint16|int32|uint32|float32|float64)(le)?$/;
/** What a written text may have: nothing that could end a frame and begin another one. */
const SAFE_TEXT_PATTERN = /^[\u0020-\u007e]{0,256}$/;
/** Of a value, what is told of it. */
const TOLD_CHARS = 60;

const INTEGER_BYTES: Readonly<Record<string, number>> = { int8: 1, uint8: 1, int16: 2, uint16: 2, int32: 4, uint32: 4 };
/** Largest error, in parts of the value, of the nearest float32 in its normal range. */
const FLOAT32_ERROR = 2 ** -24;
/** How far, in parts of the value, a fraction may be off: sums of binary fractions are not the decimals meant. */
const FRACTION_PARTS = 2n ** 50n;

/** What stands behind `{value:`; undefined when it is no format. */
export function parseFormat(text: string): Format | undefined {
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

/** Characters that a text is filled up to with blanks behind it; 0: it is sent as it is. */
export function filledWidth(format: Format): number {
  return format.kind === 'text' && format.conversion === 's' ? format.width : 0;
}

/** The bytes of a value, or why there are none. */
export function formatValue(value: PointValue, format: Format): Buffer | string {
  if (value instanceof Uint8Array) return 'bytes cannot be written here.';
  if (typeof value === 'string' && !SAFE_TEXT_PATTERN.test(value)) return unsafeText();
  if (format.kind === 'binary') return formatBinary(value, format);
  const text = format.kind === 'plain' ? plainText(value) : formatText(value, format);
  if (text === undefined) return `${told(value)} does not fit the format of the template.`;
  return SAFE_TEXT_PATTERN.test(text) ? Buffer.from(text, 'latin1') : unsafeText();
}

function unsafeText(): string {
  return 'only printable ASCII of at most 256 characters may be written.';
}

type Scalar = Exclude<PointValue, Uint8Array>;

function told(value: Scalar): string {
  return String(value).slice(0, TOLD_CHARS);
}

/** Numbers in plain decimals, never with an exponent. */
function plainText(value: Scalar): string | undefined {
  if (typeof value === 'string') return value;
  const decimal = decimalOf(value);
  return decimal === undefined ? undefined : decimalText(decimal);
}

function formatText(value: Scalar, format: TextFormat): string | undefined {
  const { zero, width, conversion } = format;
  const isText = conversion === 's';
  const text = isText ? plainText(value) : numberText(value, format);
  if (text === undefined) return undefined;
  let padded = isText ? text.padEnd(width) : text.padStart(width);
  if (!isText && zero) padded = zeroPadded(text, width);
  // A field of fixed width that overflows would shift what follows.
  return width > 0 && padded.length > width ? undefined : padded;
}

function numberText(value: Scalar, { decimals, conversion }: TextFormat): string | undefined {
  const decimal = typeof value === 'string' ? undefined : decimalOf(value);
  if (decimal === undefined) return undefined;
  if (conversion === 'f') {
    const fixed = withPlaces(decimal, decimals);
    return fixed === undefined ? undefined : decimalText(fixed);
  }
  if (decimal.places > 0) return undefined;
  if (conversion === 'd') return decimalText(decimal);
  if (decimal.isNegative) return undefined;
  const digits = decimal.digits.toString(16);
  return conversion === 'X' ? digits.toUpperCase() : digits;
}

function zeroPadded(digits: string, width: number): string {
  return digits.startsWith('-') ? `-${digits.slice(1).padStart(width - 1, '0')}` : digits.padStart(width, '0');
}

/** digits × 10^-places, as a person reads the shortest decimal that is the number. */
interface Decimal {
  readonly isNegative: boolean;
  readonly digits: bigint;
  readonly places: number;
}

/** Undefined for NaN and infinity. */
function decimalOf(value: number | bigint | boolean): Decimal | undefined {
  const shortest = String(typeof value === 'boolean' ? Number(value) : value);
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(shortest);
  if (match === null) return undefined;
  const [, sign, whole = '', fraction = '', exponent = '0'] = match;
  const places = fraction.length - Number(exponent);
  const digits = BigInt(whole + fraction) * 10n ** BigInt(Math.max(0, -places));
  return { isNegative: sign === '-', digits, places: Math.max(0, places) };
}

/** With exactly so many places; undefined where that is another number. */
function withPlaces({ isNegative, digits, places }: Decimal, wanted: number): Decimal | undefined {
  if (places <= wanted) return { isNegative, digits: digits * 10n ** BigInt(wanted - places), places: wanted };
  const step = 10n ** BigInt(places - wanted);
  const rounded = (digits + step / 2n) / step;
  const error = rounded * step - digits;
  if ((error < 0n ? -error : error) * FRACTION_PARTS > digits) return undefined;
  return { isNegative, digits: rounded, places: wanted };
}

function decimalText({ isNegative, digits, places }: Decimal): string {
  const text = digits.toString().padStart(places + 1, '0');
  const whole = text.slice(0, text.length - places);
  return `${isNegative ? '-' : ''}${whole}${places > 0 ? `.${text.slice(-places)}` : ''}`;
}

function formatBinary(value: Scalar, { type, isLittle }: BinaryFormat): Buffer | string {
  const number = typeof value === 'boolean' ? Number(value) : value;
  if (typeof number === 'string') return `${told(number)} is not a number.`;
  const bytes = type === 'float32' || type === 'float64' ? floatBytes(number, type) : integerBytes(number, type);
  return typeof bytes !== 'string' && isLittle ? bytes.reverse() : bytes;
}

/** Of a fraction the nearest; an integer as it is. */
function floatBytes(number: number | bigint, type: 'float32' | 'float64'): Buffer | string {
  const double = Number(number);
  const held = type === 'float32' ? Math.fround(double) : double;
  const isWhole = typeof number === 'bigint' || Number.isSafeInteger(number);
  const isHeld = isWhole
    ? Number.isFinite(held) && BigInt(held) === BigInt(number)
    : Math.abs(held - double) <= Math.abs(double) * FLOAT32_ERROR;
  if (!isHeld) return `a ${type} does not hold ${number}.`;
  const bytes = Buffer.alloc(type === 'float32' ? 4 : 8);
  if (type === 'float32') bytes.writeFloatBE(held);
  else bytes.writeDoubleBE(held);
  return bytes;
}

function integerBytes(number: number | bigint, type: BinaryType): Buffer | string {
  const width = INTEGER_BYTES[type] ?? 1;
  const isSigned = !type.startsWith('u');
  const min = isSigned ? -(2 ** (width * 8 - 1)) : 0;
  const max = 2 ** (width * 8 - (isSigned ? 1 : 0)) - 1;
  const isWhole = typeof number === 'bigint' || Number.isInteger(number);
  if (!isWhole || number < min || number > max) return `${number} is not a whole number of ${min} to ${max}.`;
  const bytes = Buffer.alloc(width);
  if (isSigned) bytes.writeIntBE(Number(number), 0, width);
  else bytes.writeUIntBE(Number(number), 0, width);
  return bytes;
}
