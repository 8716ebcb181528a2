// Time as it leaves the box. Chunks in the log never change, so what was measured while the clock was unknown is
// corrected here, on a copy, as soon as the offset of its boot is known.

import { timeText } from '../core/body.ts';
import type { StoredMessage } from '../core/message.ts';
import { isoTime } from '../core/time.ts';

/**
 * The message with its time made right: bodies of ours get the corrected time at its recorded bytes, in the words of their format, bodies that
 * are not ours get `creationTimeUtc`, unless their sender set it. The message itself is never changed.
 *
 * @param clockOffset True wall clock minus monotonic clock of a boot in ms (corrected = monotonicMs + offset), whatever the
 *   wall clock said meanwhile; undefined: unknown.
 * @param bodiesOnly The endpoint sends no properties: bodies that are not ours stay as they are.
 */
export function restamp(
  stored: StoredMessage,
  clockOffset: (bootId: string) => number | undefined,
  bodiesOnly = false,
): StoredMessage {
  const { message } = stored;
  const { time } = message;
  const timeAt = message.stamps?.timeAt;
  const synced = time.clock === 'synced';
  if (timeAt === undefined ? bodiesOnly : synced) return stored;
  const offsetMs = synced ? undefined : clockOffset(time.bootId);
  if (!synced && offsetMs === undefined) return stored;
  const trueMs = offsetMs === undefined ? time.wallMs : Math.round(time.monotonicMs + offsetMs);
  if (timeAt === undefined) {
    if (message.systemProperties.creationTimeUtc !== undefined) return stored;
    const systemProperties = { ...message.systemProperties, creationTimeUtc: isoTime(trueMs) };
    return { ...stored, message: { ...message, systemProperties } };
  }
  const body = Buffer.from(message.body);
  body.write(timeText(message.systemProperties.contentType, trueMs), timeAt, 'latin1');
  return { ...stored, message: { ...message, body } };
}
