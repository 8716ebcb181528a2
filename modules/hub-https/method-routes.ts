// Direct methods over HTTPS, for back ends and for modules that call their neighbours (contract/service-05, section 1;
// contract/device-http.md, section 6).

import { z } from 'zod';
import { iotHubError, QUOTAS, type Hub, type Principal } from '#sdk';
import { readJson } from './json-body.ts';
import type { Call, Routes } from './routes.ts';

/** A payload at its largest, and the rest of the request. */
const CALL_BYTES = QUOTAS.method_bytes + 16 * 1024;

const seconds = z.number({ error: 'must be a number of seconds' });
const callSchema = z.object(
  {
    methodName: z.string({ error: 'must be a text' }),
    payload: z.unknown().optional(),
    responseTimeoutInSeconds: seconds.nullish(),
    connectTimeoutInSeconds: seconds.nullish(),
  },
  { error: 'must be an object' },
);

const RESPONSE_SECS = 30;

/** @param stopping ends the calls that wait for a device. */
export function addMethodRoutes(routes: Routes, hub: Hub, stopping: AbortSignal): void {
  for (const target of ['/twins/:deviceId', '/twins/:deviceId/modules/:moduleId']) {
    routes({
      method: 'POST',
      url: `${target}/methods`,
      who: 'ServiceConnect',
      bodyBytes: CALL_BYTES,
      run: (call) => invoke(hub, call, stopping),
    });
  }
}

async function invoke(hub: Hub, call: Call, stopping: AbortSignal): Promise<string> {
  const { hubId, ref, principal, body, reply, hungUp } = call;
  const { methodName, payload, ...timeouts } = readJson(callSchema, body);
  const answer = await hub.methods.invoke(
    hubId,
    ref,
    {
      name: methodName,
      payload: payload === undefined ? new Uint8Array() : Buffer.from(JSON.stringify(payload)),
      responseTimeoutMs: (timeouts.responseTimeoutInSeconds ?? RESPONSE_SECS) * 1000,
      connectTimeoutMs: (timeouts.connectTimeoutInSeconds ?? 0) * 1000,
      caller: callerOf(principal),
    },
    AbortSignal.any([stopping, hungUp()]),
  );
  // The device's own text, digit for digit.
  const text = jsonText(answer.payload);
  reply.type('application/json; charset=utf-8');
  return `{"status":${answer.status},"payload":${text}}`;
}

function callerOf({ policy, identity }: Principal): string {
  if (identity === undefined) return policy ?? '';
  return identity.moduleId === undefined ? identity.deviceId : `${identity.deviceId}/${identity.moduleId}`;
}

/** @throws GatewayError GW_IOTHUB GenericBadGateway when the device answered with something else than JSON. */
function jsonText(payload: Uint8Array): string {
  if (payload.byteLength === 0) return 'null';
  const text = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8');
  try {
    JSON.parse(text);
    return text;
  } catch {
    throw iotHubError('GenericBadGateway', 'The device answered with something else than JSON.');
  }
}
