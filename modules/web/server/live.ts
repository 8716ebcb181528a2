// Live values as server-sent events. Each client watches a bounded number of devices; what changed is sent together a few
// times a second, and a client that reads slowly gets the newest values later, never a queue.

import type { ServerResponse } from 'node:http';
import { LIMITS, type AdminApi, type Clock, type DeviceQuery } from '#sdk';
import { LIVE_EVENTS } from '../contract.ts';

const CHANGES_PERIOD_MS = 500;
const STATUS_PERIOD_MS = 2000;
/** A client whose connection takes nothing for this long is let go, so that it does not hold a place. */
const BLOCKED_MS = 30_000;

export interface LiveOptions {
  readonly admin: AdminApi;
  readonly clock: Clock;
  readonly query: DeviceQuery;
}

/**
 * Serves one client until its connection closes.
 * @throws GatewayError GW_THROTTLED when there are too many; then nothing was sent.
 */
export function serveLive(response: ServerResponse, { admin, clock, query }: LiveOptions): void {
  /** Watched devices with what was last told of their state. */
  const watched = new Map<string, string>();
  const changed = new Set<string>();
  const limit = Math.min(query.limit ?? LIMITS.web_live_devices, LIMITS.web_live_devices);
  let blockedSinceMs: number | undefined;
  let statusAtMs = Number.NEGATIVE_INFINITY;
  let cancel: () => void = () => {};

  const unsubscribe = admin.subscribe(({ deviceId }) => {
    if (watched.has(deviceId)) changed.add(deviceId);
  });

  function send(event: string, data: unknown): void {
    // JSON has no line breaks, so one data line holds it (HTML Living Standard, 9.2.6).
    if (!response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)) blockedSinceMs ??= clock.monotonicMs();
  }

  /** Finds devices that came, went or changed their state without a new value. */
  function lookAtStates(): void {
    const { items } = admin.devices({ ...query, limit, withPoints: false });
    const gone = new Set(watched.keys());
    for (const { deviceId, state, reason } of items) {
      gone.delete(deviceId);
      const told = `${state} ${reason ?? ''}`;
      if (watched.get(deviceId) === told) continue;
      watched.set(deviceId, told);
      changed.add(deviceId);
    }
    for (const deviceId of gone) watched.delete(deviceId);
    if (gone.size > 0) send(LIVE_EVENTS.removed, [...gone]);
  }

  function tick(): void {
    cancel = clock.after(CHANGES_PERIOD_MS, tick);
    const nowMs = clock.monotonicMs();
    if (blockedSinceMs !== undefined) {
      if (nowMs - blockedSinceMs > BLOCKED_MS) response.destroy();
      return;
    }
    if (nowMs - statusAtMs >= STATUS_PERIOD_MS) {
      statusAtMs = nowMs;
      lookAtStates();
      send(LIVE_EVENTS.status, admin.status());
    }
    if (changed.size === 0) return;
    const devices = [...changed].flatMap((deviceId) => admin.devices({ deviceId }).items);
    changed.clear();
    send(LIVE_EVENTS.devices, devices);
  }

  response.on('drain', () => {
    blockedSinceMs = undefined;
  });
  response.on('close', () => {
    cancel();
    unsubscribe();
  });
  response.on('error', () => response.destroy());
  response.writeHead(200, {
    ...(response.getHeaders() as Record<string, string>),
    'content-type': 'text/event-stream; charset=utf-8',
    // Some proxies gather answers otherwise.
    'x-accel-buffering': 'no',
  });
  response.write('retry: 2000\n\n');
  tick();
}
