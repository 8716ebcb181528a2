// Tells log, metrics and audit what devices were told to do, and how that ended.

import type { Clock } from '../core/clock.ts';
import type { AuditRecord, CommandAnswer, CommandOptions, DeviceCommand } from '../core/command.ts';
import { errorText } from '../core/errors.ts';
import type { StateSpace } from '../core/state.ts';
import { isoTime } from '../core/time.ts';
import type { Telemetry } from '../observe/events.ts';
import { createAudit, type Audit } from './audit.ts';
import { isNotTaken, requestText, UNKNOWN } from './command-outcome.ts';

/** Characters of a name or value in the log. */
const TOLD_CHARS = 128;
/** Characters of a request in the audit. */
const AUDIT_REQUEST_CHARS = 1024;

export interface CommandReport extends Pick<Audit, 'list'> {
  /**
   * The audit of a command that is about to touch its device: if the gateway ends first, it says that nobody knows. Resolves with
   * the number of the record; undefined when it could not be kept. Never rejects.
   */
  begin(command: DeviceCommand, by: CommandOptions, sinceMs: number): Promise<number | undefined>;
  /** How it ended. `begun`: the number of its record; undefined when the device was not touched. Never rejects. */
  end(
    command: DeviceCommand,
    by: CommandOptions,
    answer: CommandAnswer,
    sinceMs: number,
    begun: number | undefined,
  ): Promise<void>;
}

export interface CommandReportOptions {
  /** Where the audit is kept. */
  readonly space: StateSpace;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
}

/** `sinceMs`, everywhere: when the command came, by the monotonic clock. */
export function createCommandReport({ space, clock, telemetry }: CommandReportOptions): CommandReport {
  const audit = createAudit(space);

  function recordOf(
    command: DeviceCommand,
    by: CommandOptions,
    answer: CommandAnswer,
    sinceMs: number,
  ): Omit<AuditRecord, 'number'> {
    const { wallMs, clock: quality } = clock.now();
    return {
      time: isoTime(wallMs),
      clock: quality,
      actor: by.actor,
      device: command.deviceId,
      command: command.kind === 'write' ? 'write' : command.action,
      ...(by.id !== undefined && { id: by.id }),
      request: requestText(command).slice(0, AUDIT_REQUEST_CHARS),
      answer,
      durationMs: Math.round(clock.monotonicMs() - sinceMs),
    };
  }

  /** An audit that cannot be kept is told, and keeps nobody from a device. */
  async function keep<T>(record: Omit<AuditRecord, 'number'>, kept: Promise<T>): Promise<T | undefined> {
    try {
      return await kept;
    } catch (error) {
      telemetry.emit('command_not_kept', { ...record, error: errorText(error) });
      return undefined;
    }
  }

  function tell(command: DeviceCommand, by: CommandOptions, answer: CommandAnswer): void {
    telemetry.emit('command_answered', { status: answer.status, device: command.deviceId, actor: by.actor, id: by.id });
    const isDone = answer.status === 200;
    const device = command.deviceId.slice(0, TOLD_CHARS);
    const fields = { key: device, device, actor: by.actor };
    const failure = { status: answer.status, error: answer.reason };
    if (command.kind === 'action') {
      const action = command.action.slice(0, TOLD_CHARS);
      if (isDone) telemetry.emit('action_done', { ...fields, action });
      else telemetry.emit('action_failed', { ...fields, ...failure, action });
      return;
    }
    /** Those that were not written: which of them is at fault stands in the error. */
    const missed: [point: string, value: string][] = [];
    for (const [point, given] of Object.entries(command.values)) {
      const value = String(given).slice(0, TOLD_CHARS);
      if (isDone || answer.values?.[point] !== undefined || answer.quality?.[point] !== undefined) {
        const readBack = String(answer.values?.[point]);
        telemetry.emit('point_written', { ...fields, point: point.slice(0, TOLD_CHARS), value, readBack });
      } else missed.push([point, value]);
    }
    if (missed.length === 0) return;
    const listed = (part: 0 | 1): string =>
      missed
        .map((one) => one[part])
        .join(', ')
        .slice(0, TOLD_CHARS);
    telemetry.emit('point_write_failed', { ...fields, ...failure, point: listed(0), value: listed(1) });
  }

  return {
    begin(command, by, sinceMs) {
      const record = recordOf(command, by, UNKNOWN, sinceMs);
      return keep(record, audit.begin(record));
    },
    async end(command, by, answer, sinceMs, begun) {
      tell(command, by, answer);
      // What was not taken, and what names no device, would only push out what matters.
      if (begun === undefined && (answer.status === 404 || isNotTaken(answer.status))) return;
      const record = recordOf(command, by, answer, sinceMs);
      await keep(record, audit.add(record, begun));
    },
    list: (page) => audit.list(page),
  };
}
