// NMEA 0183: the sentences that people have, by the names of their values, and any field of any other one.

import type { DecodeConfig } from './config-decode.ts';
import type { Decoded, Decoder } from './decoded.ts';
import { parseValue } from './decode-value.ts';
import { NMEA_SENTENCES, type NmeaFieldKind } from './nmea-sentences.ts';

interface Place {
  readonly name: string;
  readonly index: number;
  readonly kind: NmeaFieldKind;
}

// $GPGGA,…: two letters of the talker and three of the sentence; $PGRME,…: a maker's own. `$`, `!` and `*` are reserved
// (NMEA 0183, 5.1): what stands before the last mark is noise or a sentence that was cut off.
const SENTENCE_PATTERN = /[$!]((P[A-Z0-9]{2,8}|[A-Z0-9]{5}),([^*$!]*))(?:\*(.*))?$/s;
const TIME_PATTERN = /^([01]\d|2[0-3])([0-5]\d)((?:[0-5]\d|60)(?:\.\d+)?)$/;

export function createNmeaDecoder(config: Extract<DecodeConfig, { kind: 'nmea' }>): Decoder {
  const places = new Map<string, Place[]>();
  const points = new Map<string, string>();
  const add = (sentence: string, place: Place): void => {
    places.set(sentence, [...(places.get(sentence) ?? []), place]);
    if (!points.has(place.name)) points.set(place.name, `${sentence} field ${place.index}`);
  };
  for (const sentence of config.sentences) {
    for (const [name, [index, kind]] of Object.entries<readonly [number, NmeaFieldKind]>(NMEA_SENTENCES[sentence])) {
      add(sentence, { name, index, kind });
    }
  }
  for (const [name, { sentence, field, type }] of Object.entries(config.fields ?? {})) {
    add(sentence, { name, index: field, kind: type });
  }
  return {
    points,
    decode(frame) {
      const match = SENTENCE_PATTERN.exec(frame.toString('latin1'));
      if (match === null) return { kind: 'fault', reason: 'not_nmea' };
      const [, covered = '', name = '', body = '', checksum] = match;
      if (checksum !== undefined && !checksumHolds(covered, checksum.trimEnd()))
        return { kind: 'fault', reason: 'checksum' };
      const found = places.get(name) ?? (name.startsWith('P') ? undefined : places.get(name.slice(2)));
      if (found === undefined) return { kind: 'ignored' };
      const fields = [name, ...body.split(',')];
      return { kind: 'values', values: new Map(found.map((place) => [place.name, readPlace(place, fields)])) };
    },
  };
}

/** A checksum that is there must be right, and whole; whether there must be one is the line's `checksum`. */
function checksumHolds(covered: string, digits: string): boolean {
  if (!/^[0-9A-Fa-f]{2}$/.test(digits)) return false;
  return Buffer.from(covered, 'latin1').reduce((total, byte) => total ^ byte, 0) === Number.parseInt(digits, 16);
}

function readPlace({ index, kind }: Place, fields: readonly string[]): Decoded {
  const text = fields[index]?.trim() ?? '';
  if (text === '') return { bad: 'missing' };
  switch (kind) {
    case 'latitude':
      return degrees(text, fields[index + 1], LATITUDE);
    case 'longitude':
      return degrees(text, fields[index + 1], LONGITUDE);
    case 'time': {
      const match = TIME_PATTERN.exec(text);
      return match === null ? { bad: 'not_a_time' } : { value: `${match[1]}:${match[2]}:${match[3]}` };
    }
    case 'valid':
      return { value: text === 'A' };
    default:
      return parseValue(text, kind, '.');
  }
}

interface Axis {
  /** Digits of the whole degrees. */
  readonly digits: number;
  readonly positive: string;
  readonly negative: string;
  readonly maxDegrees: number;
}

const LATITUDE: Axis = { digits: 2, positive: 'N', negative: 'S', maxDegrees: 90 };
const LONGITUDE: Axis = { digits: 3, positive: 'E', negative: 'W', maxDegrees: 180 };

/** `ddmm.mmmm` and a hemisphere as degrees, to seven decimals (about a centimetre). */
function degrees(text: string, hemisphere: string | undefined, axis: Axis): Decoded {
  const { digits, positive, negative, maxDegrees } = axis;
  const isKnown = hemisphere === positive || hemisphere === negative;
  if (!/^\d+(?:\.\d+)?$/.test(text) || !isKnown) return { bad: 'not_a_number' };
  const value = Number(text.slice(0, digits)) + Number(text.slice(digits)) / 60;
  if (!(value <= maxDegrees)) return { bad: 'out_of_range' };
  return { value: Number((hemisphere === negative ? -value : value).toFixed(7)) };
}
