// Who sends a request: a shared access signature in the header, or the certificate of the connection
// (contract/device-auth.md, section 6; contract/service-01-auth.md, sections 2 and 5).

import type { FastifyRequest } from 'fastify';
import {
  iotHubError,
  iotHubErrorName,
  isIdentityId,
  peerFacts,
  type Credential,
  type Hub,
  type IdentityRef,
  type LoginRequest,
  type Permission,
  type Principal,
} from '#sdk';

/** A device or module on its own routes. @throws GatewayError GW_IOTHUB. */
export async function enterDevice(hub: Hub, request: FastifyRequest, ref: IdentityRef): Promise<Principal> {
  const principal = await login(hub, request, credentialOf(request), ref);
  hub.access.demand(principal, 'DeviceConnect', pathOf(request));
  return principal;
}

/** A back end. @throws GatewayError GW_IOTHUB. */
export async function enterService(hub: Hub, request: FastifyRequest, permission: Permission): Promise<Principal> {
  const credential = credentialOf(request);
  if (credential.kind === 'x509') throw missing();
  const principal = await login(hub, request, credential);
  hub.access.demand(principal, permission, pathOf(request));
  return principal;
}

/**
 * A module that calls a method on its own gateway, or on a device that stands behind it (contract/device-http.md, section 6).
 * @throws GatewayError GW_IOTHUB.
 */
export async function enterModuleCaller(hub: Hub, request: FastifyRequest, target: IdentityRef): Promise<Principal> {
  const header = request.headers['x-ms-edge-moduleid'];
  const [deviceId = '', moduleId = '', ...rest] = String(header).split('/').map(decoded);
  if (!isIdentityId(deviceId) || !isIdentityId(moduleId) || rest.length > 0) {
    throw iotHubError('ArgumentInvalid', 'The header x-ms-edge-moduleId is not DEVICE/MODULE.');
  }
  const principal = await login(hub, request, credentialOf(request), { deviceId, moduleId });
  hub.access.demand(principal, 'DeviceConnect');
  if (target.deviceId !== deviceId && !(await standsBehind(hub, principal.hubId, target.deviceId, deviceId))) {
    throw iotHubError('IotHubUnauthorizedAccess', `Modules of ${deviceId} may not call ${target.deviceId}.`);
  }
  return principal;
}

async function standsBehind(hub: Hub, hubId: string, deviceId: string, gatewayId: string): Promise<boolean> {
  const [device, gateway] = await Promise.all([
    hub.identities.device(hubId, deviceId),
    hub.identities.device(hubId, gatewayId),
  ]);
  const { deviceScope } = gateway;
  if (deviceScope === undefined) return false;
  return device.deviceScope === deviceScope || device.parentScopes.includes(deviceScope);
}

function credentialOf(request: FastifyRequest): Credential {
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    if (/^SharedAccessSignature /i.test(authorization)) return { kind: 'sas', token: authorization };
    throw iotHubError('IotHubUnauthorized', 'Only shared access signatures and certificates are known here.');
  }
  const { certificateChain } = peerFacts(request.raw.socket);
  if (certificateChain.length === 0) throw missing();
  return { kind: 'x509', chain: certificateChain };
}

function missing(): Error {
  return iotHubError('IotHubUnauthorizedAccess', 'Authorization header missing.');
}

async function login(
  hub: Hub,
  request: FastifyRequest,
  credential: Credential,
  claimed?: IdentityRef,
): Promise<Principal> {
  const asked: LoginRequest = {
    hostName: (request.headers.host ?? '').replace(/:\d*$/, ''),
    remoteAddress: request.socket.remoteAddress ?? '',
    protocol: 'https',
    credential,
    ...(claimed !== undefined && { claimed }),
  };
  try {
    return await hub.access.login(asked);
  } catch (error) {
    const name = iotHubErrorName(error);
    if (name !== 'DeviceNotFound' && name !== 'ModuleNotFound') throw error;
    // Who has not shown who he is does not learn which devices there are.
    throw iotHubError('IotHubUnauthorizedAccess', 'The credentials do not match an identity of this hub.');
  }
}

/** Decoded, without query: what a token's audience is compared with. */
function pathOf(request: FastifyRequest): string {
  const path = request.url.replace(/\?.*$/s, '');
  return path.split('/').map(decoded).join('/');
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
