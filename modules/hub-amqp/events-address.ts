// What addresses of the Event Hubs-compatible endpoint mean on a hub.

import { iotHubError, type HubInfo, type LinkAddress } from '#sdk';

/** Names of consumer groups are compared without case. @throws GatewayError GW_IOTHUB AmqpAddressNotFound. */
export function partitionPlace(
  { eventHub, consumerGroup, partition }: Extract<LinkAddress, { readonly kind: 'partition' }>,
  info: HubInfo,
  partitions: number,
): { readonly hubId: string; readonly consumerGroup: string; readonly partition: number } {
  demandEventHub(eventHub, info);
  const group = info.consumerGroups.find((name) => name.toLowerCase() === consumerGroup.toLowerCase());
  if (group === undefined) {
    throw iotHubError('AmqpAddressNotFound', `There is no consumer group "${consumerGroup.slice(0, 64)}".`);
  }
  return { hubId: info.hubId, consumerGroup: group, partition: partitionNumber(partition, partitions) };
}

/** @throws GatewayError GW_IOTHUB AmqpAddressNotFound. */
export function demandEventHub(eventHub: string, { eventHubName }: HubInfo): void {
  if (eventHub.toLowerCase() === eventHubName.toLowerCase()) return;
  throw iotHubError('AmqpAddressNotFound', `There is no event hub "${eventHub.slice(0, 64)}".`);
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid: clients do not try that again. */
export function partitionNumber(text: string, partitions: number): number {
  if (/^\d{1,4}$/.test(text) && Number(text) < partitions) return Number(text);
  throw iotHubError(
    'ArgumentInvalid',
    `There is no partition "${text.slice(0, 16)}": they are 0 to ${partitions - 1}.`,
  );
}
