// Who speaks to the hub, for those who look at its connections there.

export const CLIENT_NAME = 'fieldpost';

/** On every link over AMQP, as the SDKs have it (contract/device-amqp.md, section 5). */
export const LINK_PROPERTIES = { 'com.microsoft:client-version': CLIENT_NAME } as const;
