// Marks what no device has said, where whoever receives it sees it: simulated and replayed values are uncertain, and
// messages that pass through have a property.

import type { AdapterContext } from '../core/adapter.ts';
import type { DeviceId } from '../core/device.ts';
import { type Message, PROPERTY_FIELDPOST_QUALITY } from '../core/message.ts';
import { qualityText, type Quality, type ReadingBatch } from '../core/reading.ts';

export const SIMULATED = Object.freeze({ level: 'uncertain', reason: 'simulated' } as const satisfies Quality);
const REPLAYED = Object.freeze({ level: 'uncertain', reason: 'replayed' } as const satisfies Quality);

/** The context of an adapter of which some devices are captures that are played. */
export function markReplays(context: AdapterContext, replayed: ReadonlySet<string>): AdapterContext {
  if (replayed.size === 0) return context;
  const marked = (batch: ReadingBatch): ReadingBatch => (replayed.has(batch.deviceId) ? markedBatch(batch) : batch);
  const reasonOf = (deviceId: DeviceId): string | undefined => (replayed.has(deviceId) ? REPLAYED.reason : undefined);
  return {
    ...context,
    publishReadings: (batch) => context.publishReadings(marked(batch)),
    storeReadings: (batch, signal) => context.storeReadings(marked(batch), signal),
    publishMessages(messages, signal) {
      const all = messages.map((message) => (replayed.has(message.deviceId) ? markedMessage(message) : message));
      return context.publishMessages(all, signal);
    },
    reportDevice: (deviceId, state, reason) => context.reportDevice(deviceId, state, reason ?? reasonOf(deviceId)),
  };
}

function markedBatch(batch: ReadingBatch): ReadingBatch {
  const readings = batch.readings.map((reading) =>
    reading.quality.level === 'good' ? { ...reading, quality: REPLAYED } : reading,
  );
  return { ...batch, readings };
}

function markedMessage(message: Message): Message {
  return { ...message, properties: { ...message.properties, [PROPERTY_FIELDPOST_QUALITY]: qualityText(REPLAYED) } };
}
