// A broker that authorizes some devices and not others: the others must not feel it.

import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseDeviceId } from '../../src/core/device.ts';
import { startMosquitto } from '../support/mosquitto.ts';
import { createTempDir } from '../support/temp-dir.ts';
import { heldClock, mqttTransport, startRig, subscribe } from '../support/upstream-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.51.1';

describe('a device that the broker does not authorize', () => {
  it.each(['live_first', 'strict'] as const)('delays no other (%s)', async (order) => {
    using directory = createTempDir('upstream-acl');
    const acl = directory.file('acl');
    writeFileSync(acl, 'topic readwrite ok/#\n');
    // With no limit Mosquitto 2.0.11 ends the connection after each refusal: it compares with the limit without asking
    // whether there is one.
    await using broker = await startMosquitto({
      address: ADDRESS,
      lines: ['max_queued_messages 100000', `acl_file ${acl}`],
    });
    await using witness = await subscribe(broker.url);
    // No pause of the whole queue would end.
    await using rig = startRig(mqttTransport({ url: broker.url, topic: '{device_id}/y' }), order, heldClock().clock);
    const good: string[] = [];
    for (let round = 0; round < 60; round += 1) {
      await rig.append(2, `bad${round}-`, { deviceId: parseDeviceId('bad') });
      const texts = await rig.append(2, `ok${round}-`, { deviceId: parseDeviceId('ok') });
      good.push(...texts);
      await waitFor(() => witness.texts().includes(texts[1] ?? ''));
    }
    const fromOk = witness.received.filter(({ topic }) => topic === 'ok/y').map(({ text }) => text);
    expect(fromOk).toEqual(good);
    expect(rig.runner.health().reason).toMatch(/^Messages of bad are held back: .*0x87/);
    const quarantined = await rig.outbox.quarantined({ limit: 1000 });
    // All of the bad device's messages are there: waiting or in quarantine.
    const waiting = rig.outbox.queue('$upstream').stats().messages;
    expect(waiting + quarantined.length).toBeGreaterThanOrEqual(120);
  });
});
