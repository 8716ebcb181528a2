// What devices do over HTTPS: send telemetry, and fetch and settle their commands (contract/device-http.md, sections 2 to 4).

import {
  FAULT_REFUSALS,
  faultRequest,
  iotHubError,
  messageBytes,
  QUOTAS,
  type CommandOutcome,
  type Hub,
  type TelemetryMessage,
} from '#sdk';
import { addCommandHeaders } from './command-headers.ts';
import { etagOf } from './json-body.ts';
import type { Call, Routes } from './routes.ts';
import { BATCH_TYPE, readBatch, readMessage } from './telemetry-body.ts';

/** Base64 takes a third more than what it stands for, and JSON has its marks. What comes of it is measured again. */
const BATCH_BYTES = 2 * QUOTAS.device_message_bytes;

export function addDeviceRoutes(routes: Routes, hub: Hub): void {
  for (const sender of ['/devices/:deviceId', '/devices/:deviceId/modules/:moduleId']) {
    routes({
      method: 'POST',
      url: `${sender}/messages/events`,
      who: 'device',
      bodyBytes: BATCH_BYTES,
      run: (call) => sendTelemetry(hub, call),
    });
  }
  const queue = '/devices/:deviceId/messages/devicebound';
  routes({ method: 'GET', url: queue, who: 'device', run: (call) => receive(hub, call) });
  routes({
    method: 'DELETE',
    url: `${queue}/:lockToken`,
    who: 'device',
    run: (call) => settle(hub, call, call.query('reject') === undefined ? 'complete' : 'reject'),
  });
  routes({
    method: 'POST',
    url: `${queue}/:lockToken/abandon`,
    who: 'device',
    run: (call) => settle(hub, call, 'abandon'),
  });
}

async function sendTelemetry(hub: Hub, call: Call): Promise<void> {
  const { principal, ref, body, header, request, hungUp } = call;
  const isBatch = header('content-type')?.split(';')[0]?.trim().toLowerCase() === BATCH_TYPE;
  const messages = isBatch ? readBatch(body) : [readMessage(request.raw.rawHeaders, body)];
  const bytes = messages.reduce((sum, message) => sum + messageBytes(message), 0);
  if (bytes > QUOTAS.device_message_bytes) {
    throw iotHubError('MessageTooLarge', `The request has ${bytes} bytes; the most is ${QUOTAS.device_message_bytes}.`);
  }
  if (injectsFault(hub, call, messages)) return;
  await hub.telemetry.send(principal, ref, messages, hungUp());
}

/**
 * Obeys a message that asks for a fault, which over HTTPS concerns its own request alone.
 * @throws GatewayError GW_IOTHUB as asked for.
 */
function injectsFault(hub: Hub, { hubId, request }: Call, [first]: readonly TelemetryMessage[]): boolean {
  if (!hub.hubs.some((one) => one.hubId === hubId && one.faultInjection)) return false;
  const asked = first === undefined ? undefined : faultRequest(first.properties);
  if (asked === undefined) return false;
  const refusal = FAULT_REFUSALS.get(asked.type);
  if (refusal !== undefined) throw iotHubError(refusal, asked.reason);
  if (asked.type !== 'KillTcp') return false;
  request.raw.socket.destroy();
  return true;
}

async function receive(hub: Hub, { hubId, ref, reply }: Call): Promise<Buffer | undefined> {
  const command = await hub.commands.receive(hubId, ref.deviceId);
  if (command === undefined) return undefined;
  addCommandHeaders(reply.raw, ref.deviceId, command);
  const { body } = command.message;
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

async function settle(hub: Hub, { hubId, ref, param, header }: Call, outcome: CommandOutcome): Promise<void> {
  const lockToken = param('lockToken');
  const expected = etagOf(header('if-match'));
  if (expected !== undefined && expected !== '*' && expected !== lockToken) {
    throw iotHubError('PreconditionFailed', 'If-Match names another lock than the address.');
  }
  await hub.commands.settle(hubId, ref.deviceId, lockToken, outcome);
}
