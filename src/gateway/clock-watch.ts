// Notices when the clock becomes known, so that what was measured before in this boot can be corrected.

import type { Clock } from '../core/clock.ts';
import type { Outbox } from '../core/outbox.ts';
import { errorText } from '../core/errors.ts';
import type { Telemetry } from '../observe/events.ts';

const LOOK_EVERY_MS = 2000;
/** A slewing clock drifts by less; more than this between two looks was a step. */
const STEP_MS = 250;

export interface ClockWatch {
  stop(): void;
}

/** Looks at once and then every 2 s; records the boot's offset when it is known, and again after a step. */
export function watchClock(options: {
  readonly clock: Clock;
  readonly outbox: Outbox;
  readonly telemetry: Telemetry;
}): ClockWatch {
  const { clock, outbox, telemetry } = options;
  let stopped = false;
  let cancel = (): void => {};

  function look(): void {
    if (stopped) return;
    const { bootId, monotonicMs, wallMs, clock: quality } = clock.now();
    const offsetMs = Math.round(wallMs - monotonicMs);
    const known = outbox.clockOffset(bootId);
    if (quality === 'synced' && (known === undefined || Math.abs(known - offsetMs) > STEP_MS)) {
      telemetry.emit('clock_known', { bootId, correctedByMs: known === undefined ? undefined : offsetMs - known });
      outbox.recordClockOffset(bootId, offsetMs).catch((error: unknown) => {
        telemetry.emit('clock_record_failed', { error: errorText(error) });
      });
    }
    cancel = clock.after(LOOK_EVERY_MS, look);
  }

  look();
  return {
    stop() {
      stopped = true;
      cancel();
    },
  };
}
