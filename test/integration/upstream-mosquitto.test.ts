// The MQTT upstream against a real Mosquitto that is stopped, started, paused and killed.

import { describe, expect, it } from 'vitest';
import { startMosquitto } from '../support/mosquitto.ts';
import { mqttTransport, startRig, subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.50.1';
/** Sessions and what waits in them survive even SIGKILL. */
const DURABLE = { address: ADDRESS, persistence: true, lines: ['autosave_interval 1', 'autosave_on_changes true'] };

function expectAll(texts: readonly string[], wanted: readonly string[], mostDuplicates: number): void {
  const missing = wanted.filter((text) => !texts.includes(text));
  expect(missing).toEqual([]);
  expect(texts.length - wanted.length).toBeLessThanOrEqual(mostDuplicates);
}

describe.each(['3.1.1', 5] as const)('MQTT %s to Mosquitto', (protocol_version) => {
  it('delivers byte for byte, in order, once', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using witness = await subscribe(broker.url);
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version }));
    const texts = await rig.append(1000);
    await rig.outbox.append([
      {
        message: {
          deviceId: 'pump-1' as never,
          body: Buffer.from([0, 255, 128, 10]),
          properties: { level: 'alarm' },
          systemProperties: { contentType: 'application/octet-stream', correlationId: 'c-1', messageId: 'own-1' },
          time: { bootId: 'b', monotonicMs: 1, wallMs: 0, clock: 'synced' },
        },
        queues: [],
      },
    ]);
    await rig.drained();
    await waitFor(() => witness.received.length === 1001);
    expect(witness.texts().slice(0, 1000)).toEqual(texts);
    const last = witness.received.at(-1);
    expect(last?.payload).toEqual(Buffer.from([0, 255, 128, 10]));
    expect(last?.topic).toBe('fieldpost/gateway-1/pump-1/telemetry');
    if (protocol_version === 5) {
      expect(last).toMatchObject({
        contentType: 'application/octet-stream',
        correlationData: Buffer.from('c-1'),
        userProperties: {
          level: 'alarm',
          'message-id': 'own-1',
          'fieldpost-id': `${rig.outbox.epoch}.pump-1.1`,
          'iothub-creation-time-utc': '1970-01-01T00:00:00.000Z',
        },
      });
    }
    expect(rig.telemetry.of('messages_delivered').reduce((sum, { fields }) => sum + Number(fields['count']), 0)).toBe(
      1001,
    );
  });

  it('keeps everything while the broker is stopped, and delivers within 3 s of its return', async () => {
    await using broker = await startMosquitto(DURABLE);
    await using witness = await subscribe(broker.url);
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version }));
    const before = await rig.append(100, 'before');
    await rig.drained();
    await broker.stop();
    const during = await rig.append(2000, 'during');
    await waitFor(() => rig.runner.status().state === 'probing');
    expect(rig.runner.health().status).toBe('degraded');
    await broker.start();
    const backAtMs = performance.now();
    await waitFor(() => witness.texts().some((text) => text.startsWith('during')));
    expect(performance.now() - backAtMs).toBeLessThan(3000);
    await rig.drained();
    await waitFor(() => witness.received.length >= 2100);
    expectAll(witness.texts(), [...before, ...during], 256);
    expect(rig.runner.health()).toEqual({ status: 'running' });
  });

  it('loses nothing when the broker is killed', async () => {
    await using broker = await startMosquitto(DURABLE);
    await using witness = await subscribe(broker.url);
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version }));
    const before = await rig.append(100, 'before');
    await waitFor(() => witness.received.length === 100);
    await broker.kill();
    const during = await rig.append(500, 'during');
    await broker.start();
    await rig.drained();
    await waitFor(() => witness.received.length >= 600);
    expectAll(witness.texts(), [...before, ...during], 256);
  });

  it('gives up a broker that accepts and never answers, and comes back', async () => {
    await using broker = await startMosquitto({ address: ADDRESS });
    await using witness = await subscribe(broker.url);
    await using rig = startRig(
      mqttTransport({ url: broker.url, protocol_version, ack_timeout_ms: 1000, connect_timeout_ms: 1000 }),
    );
    await rig.append(10, 'before');
    await rig.drained();
    broker.pause();
    const during = await rig.append(500, 'during');
    await waitFor(() => rig.telemetry.of('endpoint_disconnected').length > 0);
    expect(rig.telemetry.of('endpoint_disconnected')[0]?.fields['reason']).toContain('1000 ms');
    broker.resume();
    await rig.drained();
    await waitFor(() => during.every((text) => witness.texts().includes(text)));
    expectAll(
      witness.texts().filter((text) => text.startsWith('during')),
      during,
      512,
    );
  });
});
