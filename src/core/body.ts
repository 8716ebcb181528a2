// Places in bodies of ours that are filled after they were made: the identity by the commit, the time by the pump. How they
// are written depends on the format, which the content type tells.

import { isoTime, senmlTime } from './time.ts';

export const JSON_CONTENT_TYPE = 'application/json';
/** RFC 8428, 12.3.2. */
export const SENML_CONTENT_TYPE = 'application/senml+json';
/** RFC 8949, 9.3. */
export const CBOR_CONTENT_TYPE = 'application/cbor';

/**
 * What the commit inserts at `stamps.identityAt`, one byte a character:
 * JSON `,"epoch":"k3f9","seq":17`; SenML two records at the end of the list; CBOR two pairs of the map.
 */
export function identityText(contentType: string | undefined, epoch: string, seq: number): string {
  if (contentType === SENML_CONTENT_TYPE) return `,{"n":"epoch","vs":"${epoch}"},{"n":"seq","v":${seq}}`;
  if (contentType === CBOR_CONTENT_TYPE) return `eepoch${cborHead(0x60, epoch.length)}${epoch}cseq${cborHead(0, seq)}`;
  return `,"epoch":"${epoch}","seq":${seq}`;
}

/** What stands at `stamps.timeAt`; the same number of bytes for every time. */
export function timeText(contentType: string | undefined, wallMs: number): string {
  return contentType === SENML_CONTENT_TYPE ? senmlTime(wallMs) : isoTime(wallMs);
}

/** Major type and argument (RFC 8949, 3), one character a byte. `value`: a safe integer, at least 0. */
function cborHead(major: number, value: number): string {
  if (value < 24) return String.fromCharCode(major | value);
  const sizes = [
    [0x100, 24, 1],
    [0x1_0000, 25, 2],
    [0x1_0000_0000, 26, 4],
  ] as const;
  const [, info, bytes] = sizes.find(([end]) => value < end) ?? [0, 27, 8];
  let text = '';
  for (let rest = value, left: number = bytes; left > 0; left -= 1, rest = Math.floor(rest / 256)) {
    text = String.fromCharCode(rest % 256) + text;
  }
  return String.fromCharCode(major | info) + text;
}
