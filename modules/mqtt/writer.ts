// Writes to devices: published once, with QoS 0 and never retained, so that no broker keeps a command for later; then the
// value or answer that proves it is waited for.

import {
  abortable,
  GatewayError,
  GOOD,
  LIMITS,
  UNCONFIRMED,
  type Clock,
  type PointValue,
  type PointWrite,
  type WriteResult,
} from '#sdk';
import type { Device } from './devices.ts';
import { quoted, type Denial, type Judge, type Publish, type WritePlan } from './dialect.ts';
import type { Witness } from './intake.ts';
import { assertTopicName } from './topic-template.ts';

interface Waiting {
  readonly deviceId: string;
  readonly point: string;
  readonly confirmedBy: 'reading' | 'answer';
  /** What an answer says. */
  readonly judge: Judge | undefined;
  /** What was written, which a value proves at once; another one may have been on its way before the write. */
  readonly wanted: PointValue;
  /** Point that proves the write as well. */
  readonly goal: string | undefined;
  /** The newest other value. */
  other?: string;
  isAccepted?: true;
  readonly settle: (result: WriteResult) => void;
  readonly fail: (error: GatewayError) => void;
}

export class Writer implements Witness {
  readonly #clock: Clock;
  readonly #publish: (publish: Publish) => Promise<void>;
  readonly #waiting = new Set<Waiting>();
  readonly #stopping = new AbortController();

  constructor(clock: Clock, publish: (publish: Publish) => Promise<void>) {
    this.#clock = clock;
    this.#publish = publish;
  }

  /** Ends what waits; whether it was carried out is not known. */
  stop(): void {
    this.#stopping.abort();
  }

  reading(deviceId: string, point: string, value: PointValue | undefined): void {
    for (const waiting of this.#waiting) {
      if (waiting.deviceId !== deviceId || waiting.confirmedBy !== 'reading') continue;
      if (point !== waiting.point && point !== waiting.goal) continue;
      if (value !== undefined && isSame(value, waiting.wanted)) waiting.settle({ readBack: value, quality: GOOD });
      else if (point === waiting.point) waiting.other = value === undefined ? 'no good value' : String(value);
    }
  }

  answer(deviceId: string, text: string): void {
    for (const waiting of this.#waiting) {
      if (waiting.deviceId !== deviceId || waiting.judge === undefined) continue;
      const verdict = waiting.judge(text);
      if (verdict === 'confirmed') waiting.settle({ quality: GOOD });
      else if (verdict === 'accepted') accept(waiting);
      else if ('reason' in verdict) waiting.fail(refused(waiting, verdict));
      else if (verdict.value !== undefined && isSame(verdict.value, waiting.wanted))
        waiting.settle({ readBack: verdict.value, quality: GOOD });
      else if (waiting.confirmedBy === 'answer') waiting.other = quoted(text);
    }
  }

  /**
   * What a device takes is partly known from what it says (Sparkplug's births), and gone with it: one that is away is told
   * to be away, never to refuse.
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED.
   */
  check(device: Device, write: PointWrite): void {
    if (device.state === 'good') planOf(device, write);
  }

  /**
   * @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED, GW_DEVICE_OFFLINE, GW_BUS_BUSY, GW_TIMEOUT, GW_WRITE_VERIFY,
   * GW_MQTT_ANSWER, GW_DISCONNECTED.
   */
  async write(
    device: Device | undefined,
    { deviceId, point, value }: PointWrite,
    signal: AbortSignal,
  ): Promise<WriteResult> {
    if (device === undefined) throw new GatewayError('GW_NOT_FOUND', `There is no MQTT device "${deviceId}" yet.`);
    if (device.state !== 'good') {
      throw new GatewayError('GW_DEVICE_OFFLINE', `"${deviceId}" is not connected; nothing was sent.`);
    }
    const plan = planOf(device, { deviceId, point, value });
    if (this.#waiting.size >= LIMITS.mqtt_waiting_writes) {
      throw new GatewayError('GW_BUS_BUSY', 'Too many writes wait for MQTT devices; try again.');
    }
    return this.#carryOut(plan, { deviceId, point, value, signal: AbortSignal.any([signal, this.#stopping.signal]) });
  }

  async #carryOut(
    plan: WritePlan,
    { deviceId, point, value, signal }: PointWrite & { readonly signal: AbortSignal },
  ): Promise<WriteResult> {
    const { confirmedBy, judge, wanted = value, goal } = plan;
    if (confirmedBy === 'none') {
      for (const publish of plan.publish) await this.#publish(publish);
      return UNCONFIRMED;
    }
    let waiting: Waiting | undefined;
    let cancel: (() => void) | undefined;
    // Listens before it sends: the answer may be faster than the sending is told.
    const confirmed = new Promise<WriteResult>((resolve, reject) => {
      const entry: Waiting = {
        deviceId,
        point,
        confirmedBy,
        judge,
        wanted,
        goal,
        settle: resolve,
        fail: reject,
      };
      waiting = entry;
      this.#waiting.add(entry);
      cancel = this.#clock.after(plan.timeoutMs, () => {
        const { other } = entry;
        const what = { deviceId, point, timeoutMs: plan.timeoutMs };
        if (other !== undefined) reject(saysOtherwise(what, other));
        else if (entry.isAccepted === true) resolve(UNCONFIRMED);
        else reject(notConfirmed(what));
      });
    });
    try {
      const [result] = await abortable(
        Promise.all([
          confirmed,
          (async () => {
            for (const publish of plan.publish) await this.#publish(publish);
          })(),
        ]),
        signal,
      );
      return result;
    } finally {
      cancel?.();
      if (waiting !== undefined) this.#waiting.delete(waiting);
    }
  }
}

/** What it said before may have been on its way; what it says from now on is what came of the write. */
function accept(waiting: Waiting): void {
  waiting.isAccepted = true;
  delete waiting.other;
}

/** @throws GatewayError GW_NOT_FOUND, GW_WRITE_REFUSED. */
function planOf(device: Device, { deviceId, point, value }: PointWrite): WritePlan {
  const plan = device.dialect.planWrite(deviceId, point, value);
  if (plan === undefined) {
    if (device.info.points.some(({ name }) => name === point))
      throw new GatewayError('GW_WRITE_REFUSED', `Point "${point}" of "${deviceId}" cannot be written.`);
    throw new GatewayError('GW_NOT_FOUND', `Device "${deviceId}" has no point "${point}".`);
  }
  for (const { topic } of plan.publish) assertTopicName(topic);
  return plan;
}

interface Unconfirmed {
  readonly deviceId: string;
  readonly point: string;
  readonly timeoutMs: number;
}

function notConfirmed({ deviceId, point, timeoutMs }: Unconfirmed): GatewayError {
  return new GatewayError(
    'GW_TIMEOUT',
    `"${deviceId}" did not confirm the write of "${point}" within ${timeoutMs} ms.`,
  );
}

function saysOtherwise({ deviceId, point, timeoutMs }: Unconfirmed, held: string): GatewayError {
  return new GatewayError(
    'GW_WRITE_VERIFY',
    `"${deviceId}" was sent the write to "${point}", but ${timeoutMs} ms later it says ${held}.`,
    { details: { reason: 'verify', readBack: held } },
  );
}

function refused({ deviceId, point }: Waiting, { reason, said }: Denial): GatewayError {
  return new GatewayError('GW_MQTT_ANSWER', `"${deviceId}" refused the write to "${point}": it answered ${said}.`, {
    details: { reason, answer: said },
  });
}

/** Of a float with 24 bits, such as Sparkplug's, more digits come back than it holds. */
const TOLERANCE = 2 ** -23;

function isSame(value: PointValue, wanted: PointValue): boolean {
  if (value === wanted) return true;
  if (typeof value === 'number' && typeof wanted === 'number') {
    return Math.abs(value - wanted) <= Math.abs(wanted) * TOLERANCE && !Number.isInteger(wanted);
  }
  // Integers beyond 2^53-1 are written as text as well.
  return String(value) === String(wanted);
}
