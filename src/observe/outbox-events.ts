// What the outbox tells of itself, as telemetry, and how it is by that.

import type { OutboxEvent } from '../core/outbox.ts';
import type { HealthReport } from '../core/service.ts';
import type { Telemetry } from './events.ts';
import type { Metrics } from './metrics.ts';

export interface OutboxObserver {
  /** The listener to hand to the outbox as `onEvent`. */
  readonly onEvent: (event: OutboxEvent) => void;
  /** `failed` from a failed write until the store was reopened or a commit succeeded. */
  health(): HealthReport;
}

export function createOutboxObserver(telemetry: Telemetry, metrics: Metrics): OutboxObserver {
  let health: HealthReport = { status: 'running' };
  return {
    onEvent(event) {
      switch (event.kind) {
        case 'committed':
          health = { status: 'running' };
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
        case 'retention_shortened': {
          const { kind: _, ...fields } = event;
          telemetry.emit('retention_shortened', { key: event.stream, ...fields });
          return;
        }
        case 'write_failed':
          health = { status: 'failed', reason: `Messages cannot be stored: ${event.reason}` };
          telemetry.emit('outbox_write_failed', { reason: event.reason });
          return;
        case 'reopened':
          health = { status: 'running' };
          telemetry.emit('outbox_reopened');
          return;
        case 'salvaged':
          telemetry.emit('store_salvaged', { ...event.report });
      }
    },
    health: () => health,
  };
}
