// The errors of Azure IoT Hub: one table of their names and numbers, and what each is over HTTP and AMQP
// (contract/service-02-errors.md, sections 3 to 5). Inside the hub an error is a GatewayError GW_IOTHUB that carries the name;
// the heads ask `iotHubErrorOf` what to put on the wire.

import { GatewayError, isGatewayError, type ErrorCode } from '../core/errors.ts';
import type { FailureKind } from '../core/delivery.ts';
import { isoTime } from '../core/time.ts';

/** Names, as the header `iothub-errorcode` has them, and numbers, as JSON bodies do. The first three digits are an HTTP status. */
export const IOT_HUB_ERRORS = {
  GenericBadRequest: 400000,
  InvalidProtocolVersion: 400001,
  DeviceInvalidResultCount: 400002,
  InvalidOperation: 400003,
  ArgumentInvalid: 400004,
  ArgumentNull: 400005,
  IotHubFormatError: 400006,
  DeviceStorageEntitySerializationError: 400007,
  BlobContainerValidationError: 400008,
  ImportWarningExistsError: 400009,
  InvalidSchemaVersion: 400010,
  DeviceDefinedMultipleTimes: 400011,
  DeserializationError: 400012,
  BulkRegistryOperationFailure: 400013,
  DefaultStorageEndpointNotConfigured: 400014,
  InvalidFileUploadCorrelationId: 400015,
  ExpiredFileUploadCorrelationId: 400016,
  InvalidStorageEndpoint: 400017,
  InvalidMessagingEndpoint: 400018,
  InvalidFileUploadCompletionStatus: 400019,
  InvalidStorageEndpointOrBlob: 400020,
  RequestCanceled: 400021,
  InvalidStorageEndpointProperty: 400022,
  EtagDoesNotMatch: 400023,
  RequestTimedOut: 400024,
  UnsupportedOperationOnReplica: 400025,
  NullMessage: 400026,
  ConnectionForcefullyClosedOnNewConnection: 400027,
  InvalidDeviceScope: 400028,
  InvalidEndpointAuthenticationType: 400031,
  ManagedIdentityNotEnabled: 400032,
  InvalidPolicyKey: 400035,
  BulkRegenerateDeviceKeyOperationFailure: 400036,
  InvalidRouteTestInput: 400100,
  InvalidSourceOnRoute: 400101,
  RoutingNotEnabled: 400102,
  InvalidContentEncodingOrType: 400103,
  CannotRegisterModuleToModule: 400301,
  TenantHubRoutingNotEnabled: 400302,
  InvalidConfigurationTargetCondition: 400401,
  InvalidConfigurationContent: 400402,
  CannotModifyImmutableConfigurationContent: 400403,
  InvalidConfigurationCustomMetricsQuery: 400404,
  InvalidPnPInterfaceDefinition: 400501,
  InvalidPnPDesiredProperties: 400502,
  InvalidPnPReportedProperties: 400503,
  InvalidPnPWritableReportedProperties: 400504,
  InvalidDigitalTwinJsonPatch: 400505,
  InvalidDigitalTwinPayload: 400506,
  InvalidDigitalTwinPatch: 400507,
  InvalidDigitalTwinPatchPath: 400508,
  GenericUnauthorized: 401000,
  IotHubNotFound: 401001,
  IotHubUnauthorizedAccess: 401002,
  IotHubUnauthorized: 401003,
  ElasticPoolNotFound: 401004,
  SystemModuleModifyUnauthorizedAccess: 401100,
  GenericForbidden: 403000,
  IotHubSuspended: 403001,
  IotHubQuotaExceeded: 403002,
  JobQuotaExceeded: 403003,
  DeviceMaximumQueueDepthExceeded: 403004,
  IotHubMaxCbsTokenExceeded: 403005,
  DeviceMaximumActiveFileUploadLimitExceeded: 403006,
  DeviceMaximumQueueSizeExceeded: 403007,
  RoutingEndpointResponseForbidden: 403008,
  InvalidMessageExpiryTime: 403009,
  OperationNotAvailableInCurrentTier: 403010,
  KeyEncryptionKeyRevoked: 403011,
  DeviceDisabled: 403012,
  DeviceModelMaxPropertiesExceeded: 403100,
  DeviceModelMaxIndexablePropertiesExceeded: 403101,
  DeviceMaximumInflightMethodExceeded: 403800,
  GenericNotFound: 404000,
  DeviceNotFound: 404001,
  JobNotFound: 404002,
  QuotaMetricNotFound: 404004,
  SystemPropertyNotFound: 404005,
  AmqpAddressNotFound: 404006,
  RoutingEndpointResponseNotFound: 404007,
  CertificateNotFound: 404008,
  ElasticPoolTenantHubNotFound: 404009,
  ModuleNotFound: 404010,
  AzureTableStoreNotFound: 404011,
  IotHubFailingOver: 404012,
  FeatureNotSupported: 404013,
  DigitalTwinInterfaceNotFound: 404014,
  QueryStoreClusterNotFound: 404101,
  DeviceNotOnline: 404103,
  DeviceConnectionClosedRemotely: 404104,
  ConfigurationNotFound: 404301,
  GroupNotFound: 404302,
  GenericMethodNotAllowed: 405000,
  OperationNotAllowedInCurrentState: 405102,
  ImportDevicesNotSupported: 405103,
  BulkAddDevicesNotSupported: 405104,
  RequestTimeout: 408000,
  GenericConflict: 409000,
  DeviceAlreadyExists: 409001,
  LinkCreationConflict: 409002,
  CallbackSubscriptionConflict: 409003,
  ModelAlreadyExists: 409101,
  DeviceLocked: 409102,
  DeviceJobAlreadyExists: 409103,
  JobAlreadyExists: 409104,
  ModuleAlreadyExistsOnDevice: 409301,
  ConfigurationAlreadyExists: 409401,
  ApplyConfigurationAlreadyInProgressOnDevice: 409402,
  GenericPreconditionFailed: 412000,
  PreconditionFailed: 412001,
  DeviceMessageLockLost: 412002,
  JobRunPreconditionFailed: 412003,
  InflightMessagesInLink: 412004,
  GenericRequestEntityTooLarge: 413000,
  MessageTooLarge: 413001,
  TooManyDevices: 413002,
  TooManyModulesOnDevice: 413003,
  ConfigurationCountLimitExceeded: 413101,
  GenericUnsupportedMediaType: 415000,
  IncompatibleDataType: 415101,
  GenericTooManyRequests: 429000,
  ThrottlingException: 429001,
  ThrottleBacklogLimitExceeded: 429002,
  ThrottlingBacklogTimeout: 429003,
  ThrottlingMaxActiveJobCountExceeded: 429004,
  DeviceThrottlingLimitExceeded: 429005,
  ClientClosedRequest: 499000,
  GenericServerError: 500000,
  ServerError: 500001,
  JobCancelled: 500002,
  GenericTimeout: 500008,
  InvalidThrottleParameter: 500009,
  GenericBadGateway: 502000,
  InvalidResponseWhileProxying: 502000,
  GenericServiceUnavailable: 503000,
  ServiceUnavailable: 503001,
  PartitionNotFound: 503003,
  IotHubActivationFailed: 503004,
  ServerBusy: 503005,
  IotHubRestoring: 503006,
  ReceiveLinkOpensThrottled: 503008,
  ConnectionUnavailable: 503101,
  DeviceUnavailable: 503102,
  GenericGatewayTimeout: 504000,
  GatewayTimeout: 504101,
} as const satisfies Record<string, number>;

export type IotHubErrorName = keyof typeof IOT_HUB_ERRORS;

/** One error as the heads put it on the wire. */
export interface IotHubFault {
  readonly name: IotHubErrorName;
  /** Six digits. */
  readonly code: number;
  readonly httpStatus: number;
  /** Symbol of an AMQP error. */
  readonly amqpCondition: string;
  /** May be shown to the client. */
  readonly message: string;
  readonly info: Readonly<Record<string, unknown>>;
}

/** Where the status is not the number's first three digits: the SDK for Node tells a full hub by 403 alone. */
const STATUS: Partial<Readonly<Record<IotHubErrorName, number>>> = { TooManyDevices: 403 };

/** What service clients map by name (contract/service-02, section 3). */
const CONDITION_BY_NAME: Partial<Readonly<Record<IotHubErrorName, string>>> = {
  InvalidOperation: 'amqp:not-allowed',
  IotHubNotFound: 'com.microsoft:iot-hub-not-found-error',
  IotHubSuspended: 'com.microsoft:iot-hub-suspended',
  IotHubQuotaExceeded: 'com.microsoft:quota-exceeded',
  InvalidMessageExpiryTime: 'com.microsoft:argument-error',
  DeviceDisabled: 'amqp:unauthorized-access',
  FeatureNotSupported: 'amqp:not-implemented',
  DeviceAlreadyExists: 'com.microsoft:device-already-exists',
  ModuleAlreadyExistsOnDevice: 'com.microsoft:device-already-exists',
  DeviceMessageLockLost: 'com.microsoft:message-lock-lost',
};

/** The rest, by HTTP status. */
const CONDITION_BY_STATUS: Readonly<Record<number, string>> = {
  400: 'com.microsoft:argument-error',
  401: 'amqp:unauthorized-access',
  403: 'amqp:resource-limit-exceeded',
  404: 'amqp:not-found',
  405: 'amqp:not-allowed',
  408: 'com.microsoft:timeout',
  409: 'amqp:resource-locked',
  412: 'com.microsoft:precondition-failed',
  413: 'amqp:link:message-size-exceeded',
  415: 'amqp:not-implemented',
  429: 'com.microsoft:device-container-throttled',
  503: 'com.microsoft:timeout',
  504: 'com.microsoft:timeout',
};

const KIND_BY_STATUS: Readonly<Record<number, FailureKind>> = {
  401: 'unauthorized',
  408: 'timeout',
  429: 'throttled',
  504: 'timeout',
};

/** Faults of the gateway itself that are not simply an internal error. Their texts may name files, so clients get ours. */
const OWN_FAULTS: Partial<Readonly<Record<ErrorCode, IotHubErrorName>>> = {
  GW_MESSAGE_INVALID: 'ArgumentInvalid',
  GW_OUTBOX_FULL: 'ThrottlingException',
  GW_OUTBOX_BUSY: 'ThrottlingException',
  GW_STATE_FULL: 'ThrottlingException',
  GW_THROTTLED: 'ThrottlingException',
  GW_STORE_OPEN: 'ServiceUnavailable',
  GW_STORE_WRITE: 'ServiceUnavailable',
  GW_STORE_CLOSED: 'ServiceUnavailable',
  GW_ABORTED: 'ServiceUnavailable',
  GW_TIMEOUT: 'ServiceUnavailable',
};

const OWN_TEXTS: Partial<Readonly<Record<IotHubErrorName, string>>> = {
  ThrottlingException: 'The hub cannot take more now. Send again later.',
  ServiceUnavailable: 'The hub cannot store anything at the moment. Try again later.',
};

function statusOf(name: IotHubErrorName): number {
  return STATUS[name] ?? Math.floor(IOT_HUB_ERRORS[name] / 1000);
}

/**
 * An error of the service's catalogue, to be thrown.
 * @param message for the client: what, and what to do. Never a secret.
 * @param info facts for machines; heads that have a place for them pass them on.
 */
export function iotHubError(
  name: IotHubErrorName,
  message: string,
  info: Readonly<Record<string, unknown>> = {},
): GatewayError {
  const status = statusOf(name);
  return new GatewayError('GW_IOTHUB', message, {
    kind: KIND_BY_STATUS[status] ?? (status >= 500 ? 'transient' : 'invalid'),
    details: { ...info, iotHubError: name },
  });
}

/** Name of an error that the hub refused with, else undefined. */
export function iotHubErrorName(error: unknown): IotHubErrorName | undefined {
  if (!isGatewayError(error, 'GW_IOTHUB')) return undefined;
  const name = error.details['iotHubError'];
  return typeof name === 'string' && Object.hasOwn(IOT_HUB_ERRORS, name) ? (name as IotHubErrorName) : undefined;
}

/** What to tell a client of anything thrown. What the hub did not refuse itself becomes throttling, unavailability or ServerError. */
export function iotHubErrorOf(error: unknown): IotHubFault {
  const refused = iotHubErrorName(error);
  if (refused !== undefined && isGatewayError(error)) {
    const { iotHubError: _, ...info } = error.details;
    return fault(refused, error.message, info);
  }
  const name = (isGatewayError(error) ? OWN_FAULTS[error.code] : undefined) ?? 'ServerError';
  if (name === 'ArgumentInvalid' && isGatewayError(error)) return fault(name, error.message, {});
  return fault(name, OWN_TEXTS[name] ?? 'The hub failed at this request. Its log says why.', {});
}

function fault(name: IotHubErrorName, message: string, info: Readonly<Record<string, unknown>>): IotHubFault {
  const httpStatus = statusOf(name);
  const amqpCondition = CONDITION_BY_NAME[name] ?? CONDITION_BY_STATUS[httpStatus] ?? 'amqp:internal-error';
  return { name, code: IOT_HUB_ERRORS[name], httpStatus, amqpCondition, message, info };
}

/**
 * The id by which an answer is found again in the log: `{32 hex}-G:0-TimeStamp:MM/dd/yyyy HH:mm:ss`.
 * @param id 32 hexadecimal digits, drawn for each error.
 * @param wallMs wall clock.
 */
export function trackingId(id: string, wallMs: number): string {
  const iso = isoTime(wallMs);
  return `${id}-G:0-TimeStamp:${iso.slice(5, 7)}/${iso.slice(8, 10)}/${iso.slice(0, 4)} ${iso.slice(11, 19)}`;
}

/** Form A of contract/service-02, section 1, for HTTP: the SDK for Node reads no other. */
export function httpErrorBody(error: IotHubFault, id: string, wallMs: number): string {
  return JSON.stringify({
    Message: `ErrorCode:${error.name};${error.message}`,
    ExceptionMessage: `Tracking ID:${trackingId(id, wallMs)}`,
  });
}

/** Form B, for direct methods over HTTP: form C as text inside `Message`. */
export function nestedErrorBody(error: IotHubFault, id: string, wallMs: number): string {
  return JSON.stringify({ Message: plainErrorBody(error, id, wallMs), ExceptionMessage: '' });
}

/** Form C, for descriptions of AMQP errors and twin responses over MQTT. */
export function plainErrorBody(error: IotHubFault, id: string, wallMs: number): string {
  return JSON.stringify({
    errorCode: error.code,
    trackingId: trackingId(id, wallMs),
    message: error.message,
    ...(Object.keys(error.info).length === 0 ? {} : { info: error.info }),
    timestampUtc: isoTime(wallMs),
  });
}
