// What every adapter keeps, whatever protocol it speaks: the contract of src/core/adapter.ts.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Adapter, AdapterContext, PointWrite, WriteResult } from '../../src/core/adapter.ts';
import { isDeviceId } from '../../src/core/device.ts';
import { isGatewayError } from '../../src/core/errors.ts';
import { waitFor } from '../support/wait.ts';
import { NEVER, record, type Recording } from '../unit/modules/modbus/harness.ts';

/** An adapter with the peer that it talks to. */
export interface AdapterSubject {
  readonly adapter: Adapter;
  /** A point that can be read, with a period of 100 ms at most, and written with that value. */
  readonly point: PointWrite;
  /** A point that can be read only. */
  readonly readOnly: PointWrite;
  /** Connections that the peer has seen. */
  accepted(): number;
  /** The peer takes everything and says nothing. */
  silence(): void;
  /** The peer is gone. */
  vanish(): Promise<void>;
  /** The peer is as it was. */
  restore(): Promise<void>;
  dispose(): Promise<void>;
}

/** What is different by the nature of the protocol. */
export interface AdapterTraits {
  /**
   * The values come unasked: of a device that was not heard yet nobody knows whether it is away, and its silence is no
   * reading that failed. Default: it is polled.
   */
  readonly isUnsolicited?: boolean;
  /** The peer connects to the adapter: that nobody came is no fault of the adapter's. */
  readonly isServer?: boolean;
}

/** No wait of an adapter's stop may depend on a peer: time limits of requests do not count. */
const STOP_LIMIT_MS = 1000;

export function describeAdapter(
  name: string,
  create: (context: AdapterContext) => Promise<AdapterSubject>,
  { isUnsolicited = false, isServer = false }: AdapterTraits = {},
): void {
  describe(`adapter contract: ${name}`, () => {
    let recording: Recording;
    let subject: AdapterSubject;
    let adapter: Adapter;

    beforeEach(async () => {
      recording = record();
      subject = await create(recording.context);
      ({ adapter } = subject);
    });

    afterEach(async () => {
      await adapter.stop(NEVER);
      await subject.dispose();
    });

    const device = (): string => subject.point.deviceId;
    const quality = (): string | undefined => recording.quality(device(), subject.point.point);
    const good = (): Promise<unknown> => waitFor(() => quality() === 'good' && recording.state(device()) === 'good');
    const counts = (): number[] => [
      recording.batches.length,
      recording.states.length,
      recording.exchanges.length,
      recording.polls.length,
    ];

    /** As long as some polls take. */
    async function afterSomePolls(): Promise<void> {
      const startMs = performance.now();
      await waitFor(() => performance.now() - startMs > 400);
    }

    const write = (point: PointWrite): Promise<WriteResult> =>
      adapter.write?.(point, NEVER) ?? Promise.reject(new Error('no write'));

    const codeOf = (promise: Promise<unknown>): Promise<string> =>
      promise.then(
        () => 'none',
        (error: unknown) => (isGatewayError(error) ? error.code : String(error)),
      );

    /** What the adapter says of itself while its peer is away. */
    async function showsAbsence(): Promise<void> {
      await waitFor(() => adapter.health().status === (isServer ? 'running' : 'degraded'));
      if (!isServer) expect(adapter.health().reason).toMatch(/\w.*[.!]$/);
    }

    async function stopTimed(): Promise<number> {
      const startMs = performance.now();
      await adapter.stop(NEVER);
      return performance.now() - startMs;
    }

    it('touches nothing before it is started', async () => {
      await afterSomePolls();
      expect(subject.accepted()).toBe(0);
      expect(counts()).toEqual([0, 0, 0, 0]);
    });

    it('names its devices before it is started, and the same ones after', async () => {
      const before = adapter.devices();
      expect(before.length).toBeGreaterThan(0);
      for (const { deviceId, points } of before) {
        expect(isDeviceId(deviceId)).toBe(true);
        expect(new Set(points.map((point) => point.name)).size).toBe(points.length);
        for (const point of points) expect(point.address).not.toBe('');
      }
      await adapter.start(NEVER);
      await good();
      expect(adapter.devices()).toEqual(before);
    });

    it('publishes readings of the points that it named, with time and quality', async () => {
      await adapter.start(NEVER);
      await good();
      const infos = new Map(
        adapter.devices().map(({ deviceId, points }) => [deviceId, points.map(({ name }) => name)]),
      );
      for (const { deviceId, time, readings } of recording.batches) {
        expect(readings.length).toBeGreaterThan(0);
        for (const reading of readings) {
          expect(infos.get(deviceId)).toContain(reading.point);
          expect(reading.value === undefined).toBe(reading.quality.level === 'bad');
        }
        expect(time.monotonicMs).toBeLessThanOrEqual(recording.context.clock.monotonicMs());
      }
      for (const { device } of recording.states) expect([...infos.keys()]).toContain(device);
      for (const { latenessMs, missedPolls } of recording.polls) {
        expect(latenessMs).toBeGreaterThanOrEqual(0);
        expect(missedPolls).toBeGreaterThanOrEqual(0);
      }
    });

    it('starts although its peer is away, says so, and finds it when it comes', async () => {
      await subject.vanish();
      await adapter.start(NEVER);
      await showsAbsence();
      if (isUnsolicited) {
        expect(counts()).toEqual([0, 0, 0, 0]);
      } else {
        await waitFor(() => recording.state(device()) === 'offline');
        expect(quality()).toMatch(/^bad:[a-z_0-9]+$/);
      }
      await subject.restore();
      await good();
      expect(adapter.health()).toEqual({ status: 'running' });
    });

    it('shows a peer that went silent and one that went away, and recovers from both', async () => {
      await adapter.start(NEVER);
      await good();
      subject.silence();
      await waitFor(() => recording.state(device()) === 'offline');
      await showsAbsence();
      await subject.restore();
      await good();
      await subject.vanish();
      await waitFor(() => recording.state(device()) === 'offline');
      await subject.restore();
      await good();
    });

    it('is started once, however often it is asked', async () => {
      await Promise.all([adapter.start(NEVER), adapter.start(NEVER)]);
      await good();
      await adapter.start(NEVER);
      await afterSomePolls();
      expect(subject.accepted()).toBe(1);
    });

    it('says nothing any more once its stop has resolved', async () => {
      await adapter.start(NEVER);
      await good();
      await Promise.all([adapter.stop(NEVER), adapter.stop(NEVER)]);
      expect(adapter.health().status).toBe('stopped');
      const before = counts();
      await afterSomePolls();
      expect(counts()).toEqual(before);
      await adapter.stop(NEVER);
    });

    it('stops without waiting for a silent peer, an absent one, or a start', async () => {
      expect(await stopTimed()).toBeLessThan(STOP_LIMIT_MS);
      for (const trouble of ['silence', 'vanish'] as const) {
        const other = await create(recording.context);
        try {
          await other.adapter.start(NEVER);
          await waitFor(() => other.accepted() > 0);
          await other[trouble]();
          await afterSomePolls();
          const startMs = performance.now();
          await other.adapter.stop(NEVER);
          expect(performance.now() - startMs).toBeLessThan(STOP_LIMIT_MS);
        } finally {
          await other.dispose();
        }
      }
    });

    it('gives up an orderly stop when it is told to', async () => {
      await adapter.start(NEVER);
      await good();
      const now = AbortSignal.abort();
      expect(['none', 'GW_ABORTED']).toContain(await codeOf(adapter.stop(now)));
    });

    it('shows that its scheduler lives', async () => {
      await adapter.start(NEVER);
      await good();
      const progressMs = adapter.lastProgressMs?.();
      if (progressMs !== undefined) expect(recording.context.clock.monotonicMs() - progressMs).toBeLessThan(5000);
    });

    it('writes, and reads back what it wrote', async () => {
      await adapter.start(NEVER);
      await good();
      expect(await write(subject.point)).toEqual({ readBack: subject.point.value, quality: { level: 'good' } });
    });

    it('refuses writes that cannot be, each with its code', async () => {
      await adapter.start(NEVER);
      await good();
      expect(await codeOf(write({ ...subject.point, point: 'no-such-point' }))).toBe('GW_NOT_FOUND');
      expect(await codeOf(write({ ...subject.point, deviceId: 'no-such-device' as never }))).toBe('GW_NOT_FOUND');
      expect(await codeOf(write(subject.readOnly))).toBe('GW_WRITE_REFUSED');
      await subject.vanish();
      await waitFor(() => recording.state(device()) === 'offline');
      expect(await codeOf(write(subject.point))).toBe('GW_DEVICE_OFFLINE');
    });

    it('says before a write whether it would refuse it', async () => {
      await adapter.start(NEVER);
      await good();
      const check = (point: PointWrite): Promise<string> => codeOf((async () => adapter.checkWrite?.(point))());
      expect(await check(subject.point)).toBe('none');
      expect(await check({ ...subject.point, point: 'no-such-point' })).toBe('GW_NOT_FOUND');
      expect(await check(subject.readOnly)).toBe('GW_WRITE_REFUSED');
    });

    it('ends writes that wait when it stops', async () => {
      await adapter.start(NEVER);
      await good();
      subject.silence();
      const waiting = [codeOf(write(subject.point)), codeOf(write(subject.point))];
      expect(await stopTimed()).toBeLessThan(STOP_LIMIT_MS);
      for (const code of await Promise.all(waiting)) expect(code).toMatch(/^GW_/);
    });
  });
}
