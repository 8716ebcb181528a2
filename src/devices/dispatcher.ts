// The one door down: whatever a device is told to do, whoever asks, passes here, so that it is checked, done at most once,
// bounded in time, answered by what the device says, and told.
//
// Invariants
// - Nothing is delivered to a device that does not answer, and nothing past its deadline: no value of several either.
// - A command with an id is marked durably before it is begun: while it is under way its duplicates wait for its answer,
//   later ones are answered from its record for 24 h; one that was begun when the gateway ended is never done again.
// - Several values are checked before the first is written, by their points' rules and by their adapter; they are written
//   one after the other, and the first failure ends that.
// - What touches a device stands in the audit before it does.

import { UNCONFIRMED, type Adapter, type PointInfo, type PointWrite, type WriteResult } from '../core/adapter.ts';
import type { Clock } from '../core/clock.ts';
import {
  answerOf,
  type AuditRecord,
  type CommandAnswer,
  type CommandOptions,
  type CommandStatus,
  type DeviceCommand,
} from '../core/command.ts';
import { isDeviceId, isReachable, type DeviceId } from '../core/device.ts';
import { errorText, GatewayError } from '../core/errors.ts';
import type { PointValue } from '../core/reading.ts';
import type { StateSpace } from '../core/state.ts';
import { isoTime } from '../core/time.ts';
import type { Telemetry } from '../observe/events.ts';
import { createCommandLedger } from './command-ledger.ts';
import { failureOf, isNotTaken, isOverFor, outcomeOf, progressOf, UNKNOWN, type Progress } from './command-outcome.ts';
import { createCommandReport } from './command-report.ts';
import type { DeviceRegistry } from './device-registry.ts';
import { createDeviceQueue } from './device-queue.ts';
import { checkValue } from './write-check.ts';
import { createWriteRates } from './write-rates.ts';

export interface DispatcherOptions {
  readonly registry: DeviceRegistry;
  readonly adapterOf: (deviceId: DeviceId) => Adapter | undefined;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** Where records of commands are kept. */
  readonly commands: StateSpace;
  /** Where the audit is kept. */
  readonly audit: StateSpace;
  /** Where it is kept when points were written that may be written only so often. */
  readonly writeRates: StateSpace;
}

export interface Dispatcher {
  /** Carries a command out, or answers why not. Never rejects. */
  run(command: DeviceCommand, options: CommandOptions): Promise<CommandAnswer>;
  /**
   * Writes one value and reads it back.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_TIMEOUT, GW_THROTTLED, GW_MODBUS_EXCEPTION,
   * GW_WRITE_VERIFY, …
   */
  write(write: PointWrite, options: CommandOptions): Promise<WriteResult>;
  /** Writes each value of a desired patch by itself; by the names of the points, how each ended. Never rejects. */
  applyDesired(
    deviceId: string,
    patch: Readonly<Record<string, PointValue>>,
    options: Omit<CommandOptions, 'id'>,
  ): Promise<Readonly<Record<string, CommandAnswer>>>;
  /** Whether a device is known and does not answer now: what is sent to it would be refused. */
  isAway(deviceId: string): boolean;
  /** Asks a device who it is. @throws GatewayError GW_NOT_FOUND, GW_DEVICE_OFFLINE, GW_TIMEOUT, GW_MODBUS_EXCEPTION. */
  identify(deviceId: DeviceId): Promise<Readonly<Record<string, string>>>;
  /** Tells log and audit what was done for the gateway itself, which is no device of an adapter. Never rejects. */
  record(command: DeviceCommand, by: CommandOptions, answer: CommandAnswer, sinceMs: number): Promise<void>;
  /** Commands that were carried out or refused, the newest first. @throws GatewayError as `StateSpace.get`. */
  audit(options: { readonly limit: number; readonly before?: number }): Promise<readonly AuditRecord[]>;
  /** Commands that wait or are under way. */
  readonly waiting: number;
}

const COMMAND_TIMEOUT_MS = 30_000;
const IDENTIFY_TIMEOUT_MS = 30_000;

interface Target {
  readonly deviceId: DeviceId;
  readonly adapter: Adapter;
  readonly points: readonly PointInfo[];
}

export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { registry, adapterOf, clock, telemetry } = options;
  const ledger = createCommandLedger({ space: options.commands, clock });
  const report = createCommandReport({ space: options.audit, clock, telemetry });
  const queue = createDeviceQueue();
  /** Commands with an id that are under way. */
  const running = new Map<string, Promise<CommandAnswer>>();
  const rates = createWriteRates({ space: options.writeRates, clock });

  /** Everything that can be said before the device's turn. */
  function targetOf(command: DeviceCommand): Target {
    const device = isDeviceId(command.deviceId) ? registry.get(command.deviceId) : undefined;
    const adapter = device === undefined ? undefined : adapterOf(device.deviceId);
    if (device === undefined || adapter === undefined) throw absent(command.deviceId);
    const { deviceId, info } = device;
    if (command.kind === 'action') {
      if (adapter.invoke === undefined || info.actions?.includes(command.action) !== true) {
        const name = command.action.slice(0, 128);
        throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no action "${name}".`);
      }
      return { deviceId, adapter, points: [] };
    }
    const points = Object.entries(command.values).map(([name, value]) => {
      const point = info.points.find((one) => one.name === name);
      if (point === undefined) {
        throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no point "${name.slice(0, 128)}".`);
      }
      checkValue(deviceId, { ...point, writable: point.writable && adapter.write !== undefined }, value);
      adapter.checkWrite?.({ deviceId, point: name, value });
      return point;
    });
    return { deviceId, adapter, points };
  }

  /** Whoever is told that there is no such device does not ask again. */
  function absent(deviceId: string): GatewayError {
    if (!isDeviceId(deviceId) || !registry.isExpected(deviceId)) {
      return new GatewayError('GW_NOT_FOUND', `There is no running device "${deviceId.slice(0, 128)}".`);
    }
    const text = `The adapter of "${deviceId}" is being started; nothing was sent. Send it again.`;
    return new GatewayError('GW_ADAPTER_STARTING', text);
  }

  function checkDevice({ deviceId }: Target): void {
    const device = registry.get(deviceId);
    if (isReachable(device?.state)) return;
    const why = device?.reason === undefined ? '' : ` (${device.reason})`;
    throw new GatewayError(
      'GW_DEVICE_OFFLINE',
      `"${deviceId}" is ${device?.state ?? 'gone'}${why}; nothing is delivered to a device that does not answer.`,
    );
  }

  function checkExpiry(expiresAtMs: number | undefined): void {
    if (expiresAtMs === undefined) return;
    const { wallMs, clock: quality } = clock.now();
    if (quality !== 'synced' && quality !== 'rtc') {
      const why = 'The gateway does not know the time yet, so it cannot tell whether the command has expired.';
      throw new GatewayError('GW_COMMAND_EXPIRED', why);
    }
    if (wallMs >= expiresAtMs) {
      throw new GatewayError(
        'GW_COMMAND_EXPIRED',
        `The command expired at ${isoTime(expiresAtMs)}; it is ${isoTime(wallMs)}.`,
      );
    }
  }

  /** `failure`: what an error means, and whether it came past the deadline. */
  async function within<T>(
    timeoutMs: number,
    failure: (error: unknown, isLate: boolean) => unknown,
    act: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const deadline = new AbortController();
    const cancel = clock.after(Math.max(0, timeoutMs), () => deadline.abort());
    try {
      return await act(deadline.signal);
    } catch (error) {
      throw failure(error, deadline.signal.aborted);
    } finally {
      cancel();
    }
  }

  /** Waits for the device's turn and does it. `begin` runs last before the device is touched. @throws GatewayError. */
  async function perform(
    command: DeviceCommand,
    { expiresAtMs, timeoutMs = COMMAND_TIMEOUT_MS }: CommandOptions,
    begin: () => Promise<void>,
    progress: Progress,
  ): Promise<void> {
    // What waited in a queue while the gateway was away comes before the time service has answered.
    const settling = expiresAtMs === undefined ? undefined : clock.settling?.();
    if (settling !== undefined) await settling;
    checkExpiry(expiresAtMs);
    const { deviceId } = targetOf(command);
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    const leftMs = (): number => {
      checkExpiry(expiresAtMs);
      const untilExpiryMs = expiresAtMs === undefined ? Number.POSITIVE_INFINITY : expiresAtMs - clock.wallMs();
      const left = Math.min(deadlineMs - clock.monotonicMs(), untilExpiryMs);
      if (left > 0) return left;
      throw new GatewayError(
        'GW_COMMAND_EXPIRED',
        `The command waited ${timeoutMs} ms for "${deviceId}" and was not begun.`,
      );
    };
    await queue.run(deviceId, async () => {
      leftMs();
      const target = targetOf(command);
      checkDevice(target);
      await rates.check(target.deviceId, target.points);
      await begin();
      // The mark took a sync, which a slow disk may have drawn out.
      const failure = (error: unknown, isLate: boolean): unknown => failureOf(deviceId, error, isLate);
      await within(leftMs(), failure, (signal) => act(command, target, signal, progress));
    });
  }

  async function act(command: DeviceCommand, target: Target, signal: AbortSignal, progress: Progress): Promise<void> {
    const { deviceId, adapter, points } = target;
    if (command.kind === 'action') {
      const { action, payload } = command;
      const result = await adapter.invoke?.({ deviceId, action, ...(payload !== undefined && { payload }) }, signal);
      progress.payload = result?.payload;
      return;
    }
    for (const point of points) {
      const { name } = point;
      const value = command.values[name];
      if (value === undefined) continue;
      // The value before may have taken all the time there was, or the device down.
      signal.throwIfAborted();
      checkDevice(target);
      await rates.note(deviceId, point);
      const result = await adapter.write?.({ deviceId, point: name, value }, signal);
      if (result !== undefined) progress.written.set(name, outcomeOf(result, value));
    }
  }

  /** One command from its arrival to its answer. */
  async function carryOut(command: DeviceCommand, by: CommandOptions, key: string | undefined): Promise<CommandAnswer> {
    const sinceMs = clock.monotonicMs();
    const progress: Progress = { written: new Map() };
    let begun = false;
    let number: number | undefined;
    let answer: CommandAnswer;
    try {
      if (key !== undefined) {
        const known = await ledger.find(key);
        if (known !== undefined) return known === 'unknown' ? UNKNOWN : known;
      }
      const begin = async (): Promise<void> => {
        // Both in one commit.
        const marked = key === undefined ? undefined : ledger.begin(key);
        marked?.catch(() => {});
        number = await report.begin(command, by, sinceMs);
        await marked;
        begun = true;
        by.onBegun?.();
      };
      await perform(command, by, begin, progress);
      answer = { status: 200, ...progressOf(progress) };
    } catch (error) {
      const failure = answerOf(error);
      // Once begun it is not to be sent again with the same id, whatever the adapter says.
      const status: CommandStatus = begun && isNotTaken(failure.status) ? 502 : failure.status;
      answer = { ...failure, status, ...progressOf(progress) };
    }
    const kept = key !== undefined && (begun || isOverFor(answer.status));
    await Promise.all([
      kept
        ? ledger.finish(key, answer).catch((error: unknown) => {
            telemetry.emit('command_not_kept', { device: command.deviceId, id: by.id, error: errorText(error) });
          })
        : undefined,
      report.end(command, by, answer, sinceMs, number),
    ]);
    return answer;
  }

  function run(command: DeviceCommand, by: CommandOptions): Promise<CommandAnswer> {
    if (by.id === undefined) return carryOut(command, by, undefined);
    // A device id holds no slash.
    const key = `${command.deviceId}/${by.id}`;
    const under = running.get(key);
    if (under !== undefined) return under;
    const answered = carryOut(command, by, key).finally(() => running.delete(key));
    running.set(key, answered);
    return answered;
  }

  return {
    get waiting() {
      return queue.waiting;
    },
    run,
    async write({ deviceId, point, value }, by) {
      const command: DeviceCommand = { kind: 'write', deviceId, values: { [point]: value } };
      const sinceMs = clock.monotonicMs();
      const progress: Progress = { written: new Map() };
      let number: number | undefined;
      const begin = async (): Promise<void> => {
        number = await report.begin(command, by, sinceMs);
      };
      try {
        await perform(command, by, begin, progress);
        await report.end(command, by, { status: 200, ...progressOf(progress) }, sinceMs, number);
      } catch (error) {
        await report.end(command, by, answerOf(error), sinceMs, number);
        throw error;
      }
      return progress.written.get(point) ?? UNCONFIRMED;
    },
    async applyDesired(deviceId, patch, by) {
      const answers: Record<string, CommandAnswer> = {};
      for (const [point, value] of Object.entries(patch)) {
        answers[point] = await run({ kind: 'write', deviceId, values: { [point]: value } }, by);
      }
      return answers;
    },
    isAway(deviceId) {
      const device = isDeviceId(deviceId) ? registry.get(deviceId) : undefined;
      return device !== undefined && !isReachable(device.state);
    },
    async identify(deviceId) {
      const adapter = adapterOf(deviceId);
      if (adapter?.identify === undefined) {
        throw new GatewayError('GW_NOT_FOUND', `There is no running device "${deviceId}" that can tell who it is.`);
      }
      const late = `"${deviceId}" did not tell who it is within ${IDENTIFY_TIMEOUT_MS} ms.`;
      const failure = (error: unknown, isLate: boolean): unknown =>
        isLate ? new GatewayError('GW_TIMEOUT', late, { cause: error }) : error;
      return within(
        IDENTIFY_TIMEOUT_MS,
        failure,
        (signal) => adapter.identify?.(deviceId, signal) ?? Promise.resolve({}),
      );
    },
    record: (command, by, answer, sinceMs) => report.end(command, by, answer, sinceMs, undefined),
    audit: (page) => report.list(page),
  };
}
