// The local hub for people: what the command line asks for, as calls of the hub that runs.

import type { HubConfig } from '../config/hub-schema.ts';
import type { Clock } from '../core/clock.ts';
import { GatewayError } from '../core/errors.ts';
import type { Permission } from '../core/hub/access.ts';
import type { EventView, HubAdmin, IdentityChange } from '../core/hub/admin.ts';
import type { IdentityRef, IfMatch } from '../core/hub/identity.ts';
import type { HubEvent } from '../core/hub/messaging.ts';
import { isoTime } from '../core/time.ts';
import type { HubService } from '../hub/hub.ts';
import { writeConnectionString } from '../iothub/connection-string.ts';
import { iotHubError } from '../iothub/errors.ts';
import { isIdentityId } from '../iothub/ids.ts';
import { STAMP_NAMES } from '../iothub/stamps.ts';
import { watchEvents } from './event-watch.ts';

export interface HubAdminOptions {
  /** Undefined while it is off, or not yet built. */
  readonly hub: () => HubService | undefined;
  readonly config: () => HubConfig | undefined;
  readonly clock: Clock;
}

const AMQPS_PORT = 5671;
const CALLER = 'cli';

export function createHubAdmin({ hub: find, config, clock }: HubAdminOptions): HubAdmin {
  /** @throws GatewayError GW_NOT_FOUND. */
  function running(): { readonly hub: HubService; readonly hubId: string; readonly hostName: string } {
    const hub = find();
    const [info] = hub?.hubs ?? [];
    if (hub !== undefined && info !== undefined) return { hub, hubId: info.hubId, hostName: info.hostName };
    const why = config() === undefined ? 'is off; set `hub.enabled: true`' : 'is not up yet; its health says why';
    throw new GatewayError('GW_NOT_FOUND', `The local hub ${why}.`);
  }

  /** @param needed what the policy must allow. @throws GatewayError GW_NOT_FOUND, GW_IOTHUB InvalidOperation. */
  async function policyKey(
    name: string,
    needed?: Permission,
  ): Promise<{ readonly sharedAccessKeyName: string; readonly sharedAccessKey: string }> {
    const { hub, hubId } = running();
    const policies = await hub.policiesOf(hubId).all();
    const policy = policies.find((one) => one.name === name);
    if (policy !== undefined && needed !== undefined && !policy.permissions.includes(needed)) {
      throw iotHubError(
        'InvalidOperation',
        `The policy "${name}" does not have ${needed}, which reading events takes.`,
      );
    }
    if (policy !== undefined) return { sharedAccessKeyName: name, sharedAccessKey: policy.primaryKey };
    const names = policies.map((one) => one.name).join(', ');
    throw new GatewayError('GW_NOT_FOUND', `There is no policy "${name}". There are ${names}.`);
  }

  async function identity(ref: IdentityRef) {
    const { hub, hubId } = running();
    const { deviceId, moduleId } = ref;
    return moduleId === undefined
      ? hub.identities.device(hubId, deviceId)
      : hub.identities.module(hubId, { deviceId, moduleId });
  }

  async function identityString(ref: IdentityRef): Promise<string> {
    const { hostName } = running();
    const { authentication } = await identity(ref);
    const { deviceId, moduleId } = ref;
    // A `;` would end the field, and what stands behind it be read as others.
    if (!isIdentityId(deviceId) || !isIdentityId(moduleId ?? deviceId)) {
      throw iotHubError('InvalidOperation', 'An identity with + # or ; in its id cannot connect.');
    }
    const shared = { kind: 'device', hostName, deviceId, ...(moduleId !== undefined && { moduleId }) } as const;
    if (authentication.type === 'sas') {
      return writeConnectionString({ ...shared, sharedAccessKey: authentication.symmetricKey.primaryKey });
    }
    if (authentication.type !== 'none') return writeConnectionString({ ...shared, x509: true });
    throw iotHubError('InvalidOperation', `${moduleId ?? deviceId} has no credentials of its own.`);
  }

  /** A hub on other ports than the SDKs know can be reached by clients that take a port from the string. */
  async function eventsString(policy: string, isPlaintext: boolean): Promise<string> {
    const { hub, hostName } = running();
    const { eventHubName } = hub.hubs[0] ?? { eventHubName: '' };
    const { address = '', ports } = config() ?? {};
    const { amqps = AMQPS_PORT, amqp } = ports ?? {};
    const port = isPlaintext ? amqp : amqps;
    if (port === undefined) {
      throw new GatewayError('GW_NOT_FOUND', 'The hub has no port without TLS; set `hub.amqp_port`.');
    }
    const name = isPlaintext ? plainHost(address) : hostName;
    return writeConnectionString({
      kind: 'events',
      host: port === AMQPS_PORT ? name : `${name}:${port}`,
      ...(await policyKey(policy, 'ServiceConnect')),
      entityPath: eventHubName,
      ...(isPlaintext && { isPlaintext: true }),
    });
  }

  async function put({ deviceId, moduleId, ...fields }: IdentityChange, ifMatch: IfMatch) {
    const { hub, hubId } = running();
    return moduleId === undefined
      ? hub.identities.putDevice(hubId, { deviceId, ...fields }, ifMatch)
      : hub.identities.putModule(hubId, { deviceId, moduleId, ...fields }, ifMatch);
  }

  return {
    async connectionString(request) {
      switch (request.of) {
        case 'policy': {
          const { hostName } = running();
          return { text: writeConnectionString({ kind: 'policy', hostName, ...(await policyKey(request.policy)) }) };
        }
        case 'identity':
          return { text: await identityString(request) };
        case 'events':
          return { text: await eventsString(request.policy, request.isPlaintext === true) };
        default:
          return request satisfies never;
      }
    },
    async identities(page) {
      const { hub, hubId } = running();
      return hub.identities.devices(hubId, page);
    },
    async modules({ deviceId }) {
      const { hub, hubId } = running();
      return hub.identities.modules(hubId, deviceId);
    },
    identity,
    createIdentity: (request) => put(request, undefined),
    updateIdentity: (request) => put(request, '*'),
    async deleteIdentity({ deviceId, moduleId }) {
      const { hub, hubId } = running();
      await (moduleId === undefined
        ? hub.identities.deleteDevice(hubId, deviceId, '*')
        : hub.identities.deleteModule(hubId, { deviceId, moduleId }, '*'));
      return {};
    },
    async regenerateKeys({ which, ...ref }) {
      const { hub, hubId } = running();
      return hub.identities.regenerateKeys(hubId, ref, which);
    },
    async twin(ref) {
      const { hub, hubId } = running();
      return hub.twins.get(hubId, ref);
    },
    async updateTwin({ tags, desired, ...ref }) {
      const { hub, hubId } = running();
      const update = { ...(tags !== undefined && { tags }), ...(desired !== undefined && { desired }) };
      return hub.twins.patch(hubId, ref, update, '*');
    },
    async invokeMethod({ name, payload, responseTimeoutSecs = 30, connectTimeoutSecs = 0, ...ref }) {
      const { hub, hubId } = running();
      const answer = await hub.methods.invoke(hubId, ref, {
        name,
        // As azure-iothub does: the SDK for Node cannot read an empty payload over MQTT.
        payload: Buffer.from(JSON.stringify(payload ?? null)),
        responseTimeoutMs: responseTimeoutSecs * 1000,
        connectTimeoutMs: connectTimeoutSecs * 1000,
        caller: CALLER,
      });
      return { status: answer.status, payload: answer.payload.byteLength === 0 ? null : parsed(answer.payload) };
    },
    async sendCommand({ deviceId, text, properties = {}, ack = 'none', expiresInSecs, ...ids }) {
      const { hub, hubId } = running();
      const expiry = expiresInSecs === undefined ? {} : { expiresAtMs: clock.wallMs() + expiresInSecs * 1000 };
      await hub.commands.send(hubId, { deviceId }, { body: Buffer.from(text), properties, ack, ...ids, ...expiry });
      return {};
    },
    async monitorEvents({ deviceId, from }, { signal, report }) {
      const { hub, hubId } = running();
      await watchEvents(hub.events, {
        hubId,
        from,
        signal,
        async report(partition, event) {
          const view = eventView(partition, event);
          if (deviceId === undefined || view.deviceId === deviceId) await report(view);
        },
      });
    },
  };
}

/** Where the port without TLS is reached: on loopback, at an address of its own where the hub has one. */
function plainHost(address: string): string {
  return address.startsWith('127.') && address !== '127.0.0.1' ? address : 'localhost';
}

/** @throws GatewayError GW_IOTHUB GenericBadGateway. */
function parsed(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(payload)) as unknown;
  } catch {
    throw iotHubError('GenericBadGateway', 'The device answered with something else than JSON.');
  }
}

function eventView(partition: number, event: HubEvent): EventView {
  const { stamps, sequenceNumber, properties, systemProperties } = event;
  const moduleId = stamps[STAMP_NAMES.connectionModuleId];
  return {
    partition,
    sequenceNumber,
    enqueuedTime: isoTime(event.enqueuedTimeMs),
    deviceId: stamps[STAMP_NAMES.connectionDeviceId] ?? event.partitionKey,
    ...(moduleId !== undefined && { moduleId }),
    properties,
    systemProperties: { ...systemProperties },
    stamps,
    ...textOf(event.body),
  };
}

function textOf(body: Uint8Array): Pick<EventView, 'text' | 'base64'> {
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(body) };
  } catch {
    return { base64: Buffer.from(body).toString('base64') };
  }
}
