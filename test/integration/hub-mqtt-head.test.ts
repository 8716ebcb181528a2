// The MQTT head as devices meet it, with a client that sends anything it is told to.

import { describe, expect, it } from 'vitest';
import { closed, hubMqttRig, received } from '../support/hub-mqtt-rig.ts';
import { HUB } from '../support/hub.ts';
import { waitFor } from '../support/wait.ts';

const D1 = { deviceId: 'd1' };

describe('telemetry over MQTT', () => {
  it('is stored before its PUBACK, with the properties of its topic', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const client = await rig.connect(D1);
    let release: (() => void) | undefined;
    rig.beforeCommit = () => new Promise((resolve) => (release = resolve));
    let isAcknowledged = false;
    const topic = 'devices/d1/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&%24.ce=utf-8&a%20b=c%26d';
    const sent = client.publishAsync(topic, '{"v":1}', { qos: 1, retain: true }).then(() => (isAcknowledged = true));
    const commit = await waitFor(() => release);
    // Whatever is answered later would have passed it.
    await client.subscribeAsync('$iothub/methods/POST/#');
    expect(isAcknowledged).toBe(false);
    commit();
    await sent;
    expect(rig.stored).toMatchObject([
      {
        hubId: HUB,
        deviceId: 'd1',
        properties: { 'a b': 'c&d', 'mqtt-retain': 'true' },
        systemProperties: { messageId: 'm 1', contentType: 'application/json', contentEncoding: 'utf-8' },
        hub: { source: 'Telemetry' },
      },
    ]);
    expect(Buffer.from(rig.stored[0]?.body ?? []).toString()).toBe('{"v":1}');
  });

  it.each([
    ['qos_2', 'devices/d1/messages/events/', 2],
    ['foreign_topic', 'devices/d2/messages/events/', 1],
    ['foreign_topic', 'devices/d1/modules/m1/messages/events/', 1],
    ['bad_topic', 'sensors/d1', 0],
    ['bad_topic', '$iothub/twin/PUT/?$rid=1', 0],
  ] as const)('ends the connection for %s (%s)', async (reason, topic, qos) => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const client = await rig.connect(D1);
    client.publish(topic, 'x', { qos });
    await closed(client);
    expect(rig.refused).toEqual([reason]);
    expect(rig.stored).toEqual([]);
  });
});

describe('cloud-to-device messages over MQTT', () => {
  it('reach the device, complete at PUBACK, and come again under their identifier after a reconnect', async () => {
    await using rig = await hubMqttRig();
    await rig.create(D1);
    const first = await rig.connect(D1);
    const messages = received(first);
    await first.subscribeAsync('devices/d1/messages/devicebound/#', { qos: 1 });
    await rig.hub.hub.commands.send(HUB, D1, {
      body: Buffer.from('on'),
      properties: { k: 'v w' },
      messageId: 'c1',
      ack: 'full',
    });
    await waitFor(() => messages.length === 1);
    expect(messages[0]?.topic).toMatch(
      /^devices\/d1\/messages\/devicebound\/%24\.mid=c1&%24\.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24\.exp=[^&]+&iothub-ack=full&k=v%20w$/,
    );
    await waitFor(async () => (await rig.hub.hub.identities.device(HUB, 'd1')).cloudToDeviceMessageCount === 0);
  });
});
