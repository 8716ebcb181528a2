// What devices of the presets take: a value that does not fit is refused before it is sent, because most devices cut it
// off, take it for something else or say nothing.

import { GatewayError, type PointValue, type ValueKind } from '#sdk';

/** @throws GatewayError GW_WRITE_REFUSED. */
export function assertFits(
  { device, point, value }: { readonly device: string; readonly point: string; readonly value: PointValue },
  kind: ValueKind,
): void {
  if (!fits(value, kind)) throw wrongValue(device, point, wordsOf(kind));
}

export function wrongValue(device: string, point: string, wanted: string): GatewayError {
  return new GatewayError('GW_WRITE_REFUSED', `"${point}" of "${device}" takes ${wanted}.`);
}

function fits(value: PointValue, kind: ValueKind): boolean {
  switch (kind.kind) {
    case 'boolean':
      return typeof value === 'boolean';
    case 'text':
      return !(value instanceof Uint8Array) && (kind.texts === undefined || kind.texts.includes(String(value)));
    case 'integer':
    case 'number': {
      if (typeof value !== 'number' && typeof value !== 'bigint') return false;
      // A whole number beyond 2^53-1 is exact as a bigint only.
      if (kind.kind === 'integer' && typeof value === 'number' && !Number.isSafeInteger(value)) return false;
      return !(kind.min !== undefined && value < kind.min) && !(kind.max !== undefined && value > kind.max);
    }
    default:
      return kind satisfies never;
  }
}

function wordsOf(kind: ValueKind): string {
  switch (kind.kind) {
    case 'boolean':
      return 'true or false';
    case 'text':
      return kind.texts === undefined ? 'a text' : `one of ${kind.texts.join(', ')}`;
    case 'integer':
    case 'number': {
      const what = kind.kind === 'integer' ? 'a whole number' : 'a number';
      const from = kind.min === undefined ? '' : ` from ${kind.min}`;
      return `${what}${from}${kind.max === undefined ? '' : ` up to ${kind.max}`}`;
    }
    default:
      return kind satisfies never;
  }
}
