// Polls to one message, in the format of the device. `epoch` and `seq` are inserted by the commit, the time may be
// corrected by the pump; both at recorded byte positions. A packed body has one time, that of its first poll; the others
// stand beside it in ms of the monotonic clock, so that correcting the one corrects them all.

import type { BodyFormat } from '../core/shape.ts';
import type { EncodedFormat } from './body-format.ts';
import { cborFormat } from './encode-cbor.ts';
import { jsonFormat } from './encode-json.ts';
import { senmlFormat } from './encode-senml.ts';

const FORMATS: Readonly<Record<BodyFormat, EncodedFormat>> = {
  json: jsonFormat,
  senml: senmlFormat,
  cbor: cborFormat,
};

export function formatOf(format: BodyFormat): EncodedFormat {
  return FORMATS[format];
}
