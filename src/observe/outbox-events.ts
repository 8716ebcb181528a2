// What the outbox tells of itself, as telemetry.

import type { OutboxEvent } from '../core/outbox.ts';
import type { Telemetry } from './events.ts';
import type { Metrics } from './metrics.ts';

/** The listener to hand to the outbox as `onEvent`. */
export function createOutboxListener(telemetry: Telemetry, metrics: Metrics): (event: OutboxEvent) => void {
  return (event) => {
    switch (event.kind) {
      case 'committed':
        metrics.observe('commitSync', event.syncMs / 1000);
        return;
      case 'dropped': {
        const { kind: _, deviceId, ...fields } = event;
        telemetry.emit('messages_dropped', { key: `${event.reason} ${deviceId}`, device: deviceId, ...fields });
        return;
      }
      case 'quarantined': {
        const { kind: _, deviceId, ...fields } = event;
        telemetry.emit('message_quarantined', { key: event.queue, device: deviceId, ...fields });
        return;
      }
      case 'write_failed':
        telemetry.emit('outbox_write_failed', { reason: event.reason });
        return;
      case 'reopened':
        telemetry.emit('outbox_reopened');
        return;
      case 'salvaged':
        telemetry.emit('store_salvaged', { ...event.report });
    }
  };
}
