// Rules for writes of the registry that need nothing but what is given (contract/service-03-registry.md, sections 2 and 3).

import type { DeviceIdentityInput, IdentityRef, IfMatch } from '../core/hub/identity.ts';
import { iotHubError } from '../iothub/errors.ts';
import { isRegistryId, isSystemModule } from '../iothub/ids.ts';
import type { DeviceRecord, IdentityRecord } from './identity-record.ts';
import { nameOf } from '../iothub/twin-record.ts';

/** A device as the gateway registers it: one of its adapters', or one that the cloud behind the hub has. */
export type DeviceInput = DeviceIdentityInput & {
  readonly isGatewayDevice?: boolean;
  readonly isCloudDevice?: boolean;
};

/** Modules that an edge device has from the beginning; nobody edits them. */
export const EDGE_MODULES = ['$edgeAgent', '$edgeHub'] as const;

const STATUS_REASON_CHARS = 128;

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function checkId(text: string, what: 'device' | 'module'): void {
  if (isRegistryId(text)) return;
  throw iotHubError(
    'ArgumentInvalid',
    `"${text.slice(0, 140)}" is not a ${what} id: 1 to 128 letters, digits or - . % _ * ? ! ( ) , : = @ $ ' + # ;.`,
  );
}

/** @throws GatewayError GW_IOTHUB SystemModuleModifyUnauthorizedAccess. */
export function checkNotSystemModule(moduleId: string): void {
  if (!isSystemModule(moduleId)) return;
  throw iotHubError('SystemModuleModifyUnauthorizedAccess', `${moduleId} is a system module; it cannot be changed.`);
}

/** @throws GatewayError GW_IOTHUB DeviceAlreadyExists, ModuleAlreadyExistsOnDevice, DeviceNotFound, ModuleNotFound, PreconditionFailed. */
export function checkPrecondition(known: IdentityRecord | undefined, ref: IdentityRef, ifMatch: IfMatch): void {
  const isModule = ref.moduleId !== undefined;
  if (ifMatch === undefined) {
    if (known === undefined) return;
    const name = isModule ? 'ModuleAlreadyExistsOnDevice' : 'DeviceAlreadyExists';
    throw iotHubError(name, `${nameOf(ref)} is registered already.`);
  }
  if (known === undefined) throw notFound(ref);
  if (ifMatch === '*' || ifMatch === known.etag) return;
  const what = isModule ? 'Module' : 'Device';
  throw iotHubError(
    'PreconditionFailed',
    `Precondition failed: ${what} version did not match, existingVersion:${known.etag} newVersion:${ifMatch.slice(0, 64)}`,
  );
}

export function notFound(ref: IdentityRef): Error {
  return ref.moduleId === undefined
    ? iotHubError('DeviceNotFound', `Device ${ref.deviceId} is not registered.`)
    : iotHubError('ModuleNotFound', `Module ${ref.moduleId} of device ${ref.deviceId} is not registered.`);
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid. */
export function checkStatusReason({ statusReason }: DeviceIdentityInput): void {
  if ((statusReason?.length ?? 0) <= STATUS_REASON_CHARS) return;
  throw iotHubError('ArgumentInvalid', `statusReason has at most ${STATUS_REASON_CHARS} characters.`);
}

/** The edge device that a scope belongs to. @throws GatewayError GW_IOTHUB InvalidDeviceScope. */
export function deviceOfScope(scope: string): string {
  const match = /^ms-azure-iot-edge:\/\/(.+)-\d+$/.exec(scope);
  const deviceId = match?.[1];
  if (deviceId !== undefined && isRegistryId(deviceId)) return deviceId;
  throw iotHubError('InvalidDeviceScope', `"${scope.slice(0, 200)}" is not the scope of an edge device.`);
}

/**
 * The scopes of a device's parents from now on. SDKs write back the whole document: of its two fields the one that says
 * something new is the one that is meant. An edge device's `deviceScope` is its own, which nobody changes.
 */
export function parentsOf(
  { deviceScope, parentScopes }: DeviceIdentityInput,
  isEdge: boolean,
  known?: Pick<DeviceRecord, 'deviceScope' | 'parentScopes'>,
): readonly string[] {
  const before = known?.parentScopes ?? [];
  const areNewParents = parentScopes !== undefined && parentScopes.join() !== before.join();
  const isNewScope = !isEdge && deviceScope !== undefined && deviceScope !== (known?.deviceScope ?? '');
  if (isNewScope && deviceScope !== '') return [deviceScope];
  if (areNewParents) return parentScopes;
  return isNewScope ? [] : before;
}
