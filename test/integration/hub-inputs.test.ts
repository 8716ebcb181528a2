// Inputs of modules: the service fills them in IoT Edge only, so nothing in this hub does yet; what a module would get is tried by
// handing messages to its session, on the unmodified SDK over MQTT and on the wire of AMQP.

import deviceSdk from 'azure-iot-device';
import mqttTransport from 'azure-iot-device-mqtt';
import { expect, it } from 'vitest';
import { createAmqpHead } from '../../modules/hub-amqp/head.ts';
import type { Hub } from '../../src/core/hub/hub.ts';
import type { ToSession } from '../../src/core/hub/session.ts';
import type { HubSessions } from '../../src/hub/sessions.ts';
import { silentLogger } from '../../src/observe/logger.ts';
import { SystemClock } from '../../src/platform/clock.ts';
import { createHubDoors } from '../../src/wire/hub-listeners.ts';
import { connectAmqp } from '../support/amqp-client.ts';
import { freePort } from '../support/free-port.ts';
import { HOST, HUB, hubRig } from '../support/hub.ts';
import { hubMqttRig } from '../support/hub-mqtt-rig.ts';
import { waitFor } from '../support/wait.ts';

const ADDRESS = '127.0.108.11';
const MODULE = { deviceId: 'edge', moduleId: 'filter' };

const { ModuleClient } = deviceSdk;

/** Hands a message to the module's session, as a route to its input would. */
async function give(hub: Hub): Promise<void> {
  const sessions = hub.sessions as HubSessions;
  const { sessionId } = await waitFor(() => sessions.find(HUB, MODULE, 'inputs'), { what: 'the interest in inputs' });
  const item: ToSession = {
    kind: 'input',
    sessionId,
    input: 'in1',
    from: { deviceId: 'edge', moduleId: 'sensor' },
    body: Buffer.from('{"t":21}'),
    properties: { 'a b': 'c&d' },
    systemProperties: { messageId: 'm1', contentType: 'application/json' },
  };
  sessions.send(sessionId, item);
}

it('reach a module on the SDK over MQTT', async () => {
  await using rig = await hubMqttRig();
  await rig.create(MODULE);
  const { authentication } = await rig.hub.hub.identities.module(HUB, MODULE);
  const key = authentication.type === 'sas' ? authentication.symmetricKey.primaryKey : '';
  const where = `HostName=${HOST};GatewayHostName=${rig.address}:${rig.port}`;
  const client = ModuleClient.fromConnectionString(
    `${where};DeviceId=${MODULE.deviceId};ModuleId=${MODULE.moduleId};SharedAccessKey=${key}`,
    mqttTransport.Mqtt,
  );
  await client.setOptions({ ca: rig.authority.certificate });
  const got: unknown[] = [];
  client.on('inputMessage', (input: string, message: InstanceType<typeof deviceSdk.Message>) => {
    const { messageId, contentType, properties } = message;
    const list = properties.propertyList.map(({ key: name, value }) => [name, value]);
    got.push([input, (message.getData() as Buffer).toString(), messageId, contentType, Object.fromEntries(list)]);
  });
  await client.open();
  await give(rig.hub.hub);
  await waitFor(() => got.length > 0, { what: 'the message' });
  const properties = expect.objectContaining({ 'a b': 'c&d' }) as unknown;
  expect(got).toEqual([['in1', '{"t":21}', 'm1', 'application/json', properties]]);
  await client.close();
});

it('reach a module over AMQP with the names of input and sender', async () => {
  const rig = await hubRig();
  const port = await freePort(ADDRESS);
  const doors = createHubDoors({
    address: ADDRESS,
    ports: { mqtts: 0, amqps: 0, https: 0, amqp: port },
    certificates: [],
    maxHandshakesPerSec: 1000,
    clock: new SystemClock(),
    log: silentLogger,
    reportRefusal: () => {},
  });
  const context = { hub: rig.hub, doors, clock: new SystemClock(), log: silentLogger, reportRefusal: () => {} };
  const head = createAmqpHead(context);
  rig.hub.attachHead('amqp', (items) => head.deliver(items));
  await head.start(new AbortController().signal);
  await rig.hub.identities.putDevice(HUB, { deviceId: MODULE.deviceId }, undefined);
  await rig.hub.identities.putModule(HUB, MODULE, undefined);
  using client = await connectAmqp({ host: ADDRESS, port, hostName: HOST });
  const path = `/devices/${MODULE.deviceId}/modules/${MODULE.moduleId}`;
  const token = await rig.token(MODULE, { lifeMs: 365 * 86_400_000 });
  expect(await client.putToken(`${HOST}${path}`, token)).toBe(200);
  const link = await client.receiver(`${path}/messages/events`);
  await give(rig.hub);
  const { message } = await link.at(0);
  expect(message).toMatchObject({
    message_id: 'm1',
    message_annotations: { 'x-opt-input-name': 'in1' },
    application_properties: { 'a b': 'c&d' },
  });
  await head.stop(AbortSignal.abort());
  await doors.close();
  await rig.hub.stop();
});
