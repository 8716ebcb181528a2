// The MQTT upstream against a real Mosquitto that is stopped, started, paused and killed.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../src/core/device.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { clockOfWaits, mqttTransport, startRig, subscribe } from '../support/upstream-rig.ts';
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
    const { clock, waitsMs } = clockOfWaits();
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version }), 'live_first', clock);
    const before = await rig.append(100, 'before');
    await rig.drained();
    await broker.stop();
    const during = await rig.append(2000, 'during');
    await waitFor(() => rig.runner.status().state === 'probing');
    expect(rig.runner.health().status).toBe('degraded');
    await broker.start();
    const failures = (): number => rig.telemetry.of('endpoint_unreachable').length;
    const failuresBefore = failures();
    await waitFor(() => witness.texts().some((text) => text.startsWith('during')));
    // The next attempt is the one that succeeds (one may have been under way), and no wait for it is longer than two seconds.
    expect(failures() - failuresBefore).toBeLessThanOrEqual(1);
    expect(Math.max(...waitsMs)).toBeLessThanOrEqual(2000);
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

describe('what Mosquitto refuses for one message', () => {
  it('too large for it: quarantined without being sent', async () => {
    await using broker = await startMosquitto({ address: ADDRESS, maxPacketBytes: 2000 });
    await using rig = startRig(mqttTransport({ url: broker.url }));
    await rig.append(5);
    await rig.append(1, 'large', { body: Buffer.alloc(5000) });
    await rig.append(5);
    await rig.drained();
    const [quarantined] = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined?.reason).toMatch(/packet of \d+ bytes; the broker takes 2000/);
    expect(rig.telemetry.of('endpoint_disconnected')).toEqual([]);
  });

  it('sent again from the quarantine once the broker takes it: as it was, so that no number is missing', async () => {
    const lines = [...DURABLE.lines, 'max_packet_size 1000'];
    await using broker = await startMosquitto({ ...DURABLE, lines });
    await using witness = await subscribe(broker.url);
    await using rig = startRig(mqttTransport({ url: broker.url }));
    await rig.append(5);
    await rig.append(1, 'large', { body: Buffer.alloc(5000) });
    await rig.append(5);
    await rig.drained();
    const quarantined = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined).toHaveLength(1);
    await broker.stop();
    lines.pop();
    await broker.start();
    await rig.outbox.requeue(quarantined.map(({ id }) => id));
    await rig.append(5);
    await rig.drained();
    const ids = (): unknown[] => witness.received.map(({ userProperties }) => userProperties['message-id']);
    const wanted = Array.from({ length: 16 }, (_, index) => `${rig.outbox.epoch}.meter-1.${index + 1}`);
    await waitFor(() => wanted.every((id) => ids().includes(id)), { what: 'every number to arrive' });
    expect(witness.received.find(({ payload }) => payload.length === 5000)?.userProperties['message-id']).toBe(
      wanted[5],
    );
    expect(ids().filter((id) => String(id).includes('.meter-1.') && !wanted.includes(String(id)))).toEqual([]);
  });

  it('too large in MQTT 3.1.1, where it can only drop the connection: found and quarantined', async () => {
    await using broker = await startMosquitto({ address: ADDRESS, maxPacketBytes: 2000 });
    await using witness = await subscribe(broker.url);
    await using rig = startRig(mqttTransport({ url: broker.url, protocol_version: '3.1.1' }));
    const before = await rig.append(20, 'a');
    await rig.append(1, 'large', { body: Buffer.alloc(5000) });
    const after = await rig.append(300, 'b');
    await rig.drained(30_000);
    const quarantined = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined.map(({ reason, stored }) => [reason, stored.message.body.byteLength])).toEqual([
      ['suspected_poison', 5000],
    ]);
    await waitFor(() => [...before, ...after].every((text) => witness.texts().includes(text)));
  });

  it('not authorized for one topic: quarantined while others pass', async () => {
    using directory = createTempDir('acl');
    writeFileSync(directory.file('acl'), 'topic readwrite fieldpost/gateway-1/meter-1/telemetry\n', { mode: 0o600 });
    // Mosquitto 2.0.11 without a limit of queued messages closes the connection after a denied PUBLISH.
    const lines = ['max_queued_messages 1000', `acl_file ${directory.file('acl')}`];
    await using broker = await startMosquitto({ address: ADDRESS, lines });
    await using rig = startRig(mqttTransport({ url: broker.url }));
    const feeding = setInterval(() => void rig.append(1, 'n').catch(() => {}), 50);
    await rig.append(1, 'forbidden', { deviceId: parseDeviceId('meter-2') });
    await waitFor(async () => (await rig.outbox.quarantined({ limit: 1 })).length === 1, { timeoutMs: 30_000 });
    clearInterval(feeding);
    const [quarantined] = await rig.outbox.quarantined({ limit: 10 });
    expect(quarantined).toMatchObject({ reason: 'Not authorized to publish to this topic (0x87).' });
  });
});
