// The fields of chunks and records: tag, length (varint) and bytes.

export interface Field {
  tag: number;
  from: number;
  to: number;
}

/** Moves on to the field behind `field.to`; false at the end. */
export function nextField(bytes: Buffer, field: Field, end: number): boolean {
  let at = field.to;
  if (at >= end) return false;
  field.tag = bytes[at] as number;
  at += 1;
  let length = 0;
  let shift = 0;
  let byte;
  do {
    byte = bytes[at] as number;
    length |= (byte & 0x7f) << shift;
    shift += 7;
    at += 1;
  } while (byte > 0x7f);
  field.from = at;
  field.to = at + length;
  return true;
}
