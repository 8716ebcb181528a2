// Writes to the points of one device: the template, the answer that confirms it, and a look at what came of it.

import {
  abortable,
  type Clock,
  compilePattern,
  type DeviceId,
  GatewayError,
  GOOD,
  isGatewayError,
  LIMITS,
  type PointValue,
  type Reading,
  UNCONFIRMED,
  type WriteResult,
} from '#sdk';
import type { WriteConfig } from './config.ts';
import type { DevicePlan } from './device-plan.ts';
import { answerFault, notSentFault } from './faults.ts';
import type { SerialLine } from './line.ts';
import { type Point, refused } from './point.ts';
import type { PolledSource } from './polled-source.ts';
import { parseTemplate } from './template.ts';

export interface PointWriterOptions {
  readonly deviceId: DeviceId;
  readonly plan: DevicePlan;
  readonly line: SerialLine;
  readonly polled: readonly PolledSource[];
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Bytes that end or begin frames: a text with one of them would be two commands. */
  readonly marks: readonly Buffer[];
  /** Why the device is offline; undefined while it is not. */
  readonly offlineReason: () => string | undefined;
  /** Writes that wait on this line, all devices together. */
  readonly waiting: { count: number };
}

/** Devices that take a value over only at the end of their cycle are read a second time. */
const SECOND_LOOK_MS = 200;

export class PointWriter {
  readonly #options: PointWriterOptions;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: PointWriterOptions) {
    this.#options = options;
  }

  /** @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED. */
  check(name: string, value: PointValue): void {
    this.#encode(name, value);
  }

  /**
   * Writes a value, after the writes that came before, and reads it back where the device can be asked for it.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_BUS_BUSY, GW_WRITE_VERIFY,
   * GW_SERIAL_ANSWER, GW_TIMEOUT, GW_ABORTED.
   */
  async write(name: string, value: PointValue, signal: AbortSignal): Promise<WriteResult> {
    const { deviceId, line, offlineReason, waiting } = this.#options;
    const { point, write, bytes, filledWidth } = this.#encode(name, value);
    const offline = offlineReason();
    if (offline !== undefined) throw new GatewayError('GW_DEVICE_OFFLINE', `"${deviceId}" is offline: ${offline}`);
    if (waiting.count >= LIMITS.bus_waiting_writes) {
      const text = `${line.wire.target}: ${waiting.count} writes wait already. Write less often.`;
      throw new GatewayError('GW_BUS_BUSY', text);
    }
    waiting.count += 1;
    let isSent = false;
    const onSent = (): void => {
      isSent = true;
    };
    const done = this.#last
      .then(() => this.#perform({ point, write, bytes, wanted: { value, write, filledWidth }, signal, onSent }))
      .finally(() => {
        waiting.count -= 1;
      });
    this.#last = done.catch(() => {});
    return abortable(done, signal).catch((error: unknown) => {
      throw !isSent && isGatewayError(error, 'GW_ABORTED') ? notSentFault(line.wire.target, error) : error;
    });
  }

  #encode(name: string, value: PointValue): Encoded {
    const { deviceId, plan, marks } = this.#options;
    const point = plan.points.get(name);
    if (point === undefined) throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no point "${name}".`);
    const { write } = point;
    if (write === undefined) throw notWritable(deviceId, name);
    const raw = point.raw(value);
    const template = parseTemplate(write.template);
    if (typeof template === 'string') throw refused(point.name, template);
    const isFreeText = typeof raw === 'string' && write.values === undefined;
    if (isFreeText && marks.some((mark) => Buffer.from(raw, 'latin1').includes(mark))) {
      throw refused(point.name, 'it has a character that ends a frame');
    }
    const bytes = plan.render(template, raw);
    if (typeof bytes === 'string') throw refused(point.name, bytes.replace(/\.$/, ''));
    return { point, write, bytes, filledWidth: template.filledWidth };
  }

  async #perform(job: WriteJob): Promise<WriteResult> {
    const { point, write, wanted, signal } = job;
    const { clock, polled } = this.#options;
    const answer = await this.#send(job);
    if (answer !== undefined) checkAnswer(point, write, answer);
    const source = polled.find((candidate) => candidate.source.decoder.points.has(point.name));
    if (write.verification === 'none' || source === undefined) {
      return answer === undefined ? UNCONFIRMED : { quality: GOOD };
    }
    if (write.settle_ms > 0) await clock.sleep(write.settle_ms, signal);
    let reading = await this.#readBack(source, point, signal);
    if (!holds(reading, wanted)) {
      await clock.sleep(SECOND_LOOK_MS, signal);
      reading = await this.#readBack(source, point, signal);
    }
    if (holds(reading, wanted)) {
      return { ...(reading.value === undefined ? {} : { readBack: reading.value }), quality: GOOD };
    }
    const held = reading.quality.level === 'good' ? String(reading.value) : reading.quality.reason;
    throw new GatewayError(
      'GW_WRITE_VERIFY',
      `"${this.#options.deviceId}" took the write to "${point.name}" but holds ${held}. If the point reads otherwise than it is written, set \`verification: none\`, or a \`tolerance\`.`,
      { details: { reason: 'verify', readBack: held } },
    );
  }

  /** The text of the answer; undefined where none is awaited. */
  async #send({ write, bytes, signal, onSent }: WriteJob): Promise<string | undefined> {
    const { deviceId, line, plan, clock, timeoutMs } = this.#options;
    const { response } = write;
    const dueMs = clock.monotonicMs();
    const job = { deviceId, bytes, timeoutMs, priority: 'write', dueMs, onSent, accepts: undefined } as const;
    if (response === undefined) {
      await this.#online(line.ask(job, signal));
      return undefined;
    }
    const { isTold, sources } = plan;
    const isValue = (frame: Buffer): boolean =>
      sources.some((source) => source.accepts(frame) && source.understands(frame));
    const confirms = (frame: Buffer): boolean => plan.accepts(frame) && says(response, frame) && !isValue(frame);
    const refuses = (frame: Buffer): boolean => plan.accepts(frame) && says(write.refusal, frame);
    // A value that neither confirms nor refuses is the late answer to a poll, or what the device says by itself.
    const accepts = (frame: Buffer): boolean =>
      plan.accepts(frame) && (!isValue(frame) || says(response, frame) || refuses(frame));
    const confirmation = { deviceId, isTold, confirms, refuses };
    const answer = await this.#online(line.ask({ ...job, accepts, confirmation }, signal));
    return answer.toString('latin1');
  }

  async #readBack(source: PolledSource, point: Point, signal: AbortSignal): Promise<Reading> {
    const dueMs = this.#options.clock.monotonicMs();
    const values = await this.#online(source.ask({ priority: 'write', dueMs }, signal));
    const decoded = values.get(point.name);
    return decoded === undefined ? point.bad('missing') : point.read(decoded);
  }

  #online<T>(promise: Promise<T>): Promise<T> {
    return promise.catch((error: unknown) => {
      if (!isGatewayError(error, 'GW_DISCONNECTED')) throw error;
      const text = `"${this.#options.deviceId}" is offline: ${error.message}`;
      throw new GatewayError('GW_DEVICE_OFFLINE', text, { cause: error });
    });
  }
}

function notWritable(deviceId: string, name: string): GatewayError {
  return new GatewayError(
    'GW_WRITE_REFUSED',
    `Point "${name}" of "${deviceId}" is not writable. Give it a \`write\` with a template if it is meant to be.`,
  );
}

/** @throws GatewayError GW_SERIAL_ANSWER when the device refuses, and for an answer that says neither. */
function checkAnswer(point: Point, write: WriteConfig, answer: string): void {
  if (write.response !== undefined && matches(write.response, answer)) return;
  const shown = JSON.stringify(answer.slice(0, 80));
  if (write.refusal === undefined || matches(write.refusal, answer)) {
    throw new GatewayError(
      'GW_SERIAL_ANSWER',
      `The device refused the write to "${point.name}": it answered ${shown}.`,
      {
        kind: 'invalid',
        details: { reason: 'refused', answer: answer.slice(0, 80) },
      },
    );
  }
  throw answerFault('no_match');
}

function says(pattern: string | undefined, frame: Buffer): boolean {
  return pattern !== undefined && matches(pattern, frame.toString('latin1'));
}

function matches(pattern: string, text: string): boolean {
  const compiled = compilePattern(pattern);
  return typeof compiled !== 'string' && compiled.test(text);
}

interface Encoded {
  readonly point: Point;
  readonly write: WriteConfig;
  readonly bytes: Buffer;
  /** How wide the template fills a value up. */
  readonly filledWidth: number;
}

interface WriteJob extends Omit<Encoded, 'filledWidth'> {
  readonly wanted: Wanted;
  readonly signal: AbortSignal;
  readonly onSent: () => void;
}

interface Wanted {
  readonly value: PointValue;
  readonly write: WriteConfig;
  readonly filledWidth: number;
}

/** Whether a reading is the value that was written. */
function holds({ value: held, quality }: Reading, { value, write, filledWidth }: Wanted): boolean {
  if (quality.level !== 'good' || held === undefined) return false;
  if (typeof value === 'number' && typeof held === 'number') {
    return Math.abs(held - value) <= Math.max(write.tolerance, Math.abs(value) * 1e-9);
  }
  // The blanks that filled the field are ours, whether the device keeps them or not.
  if (held === value || String(held).padEnd(filledWidth) === String(value).padEnd(filledWidth)) return true;
  // A value with a text of its own may read as that text.
  return (
    write.values !== undefined && write.values[String(value)]?.padEnd(filledWidth) === String(held).padEnd(filledWidth)
  );
}
