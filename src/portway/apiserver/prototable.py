"""Field numbers of the messages that kubectl's generators post, as one table: message → "number=field …".

Read by `protobuf`; the types of the fields come from the OpenAPI schema. `*` marks a pointer: its zero counts as said, while
the zero of any other field means "not said" (the encoder always writes those). `N>message` is a message whose fields stand
among its owner's. Source: the field numbers that kubernetes/api and kubernetes/apimachinery publish (1.37).
"""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "apps.v1.Deployment": "1=metadata 2=spec 3=status",
    "apps.v1.DeploymentCondition": "1=type 2=status 6=lastUpdateTime 7=lastTransitionTime 4=reason 5=message",
    "apps.v1.DeploymentSpec": (
        "1*=replicas 2*=selector 3=template 4=strategy 5=minReadySeconds 6*=revisionHistoryLimit 7=paused "
        "9*=progressDeadlineSeconds"
    ),
    "apps.v1.DeploymentStatus": (
        "1=observedGeneration 2=replicas 3=updatedReplicas 7=readyReplicas 4=availableReplicas "
        "5=unavailableReplicas 9*=terminatingReplicas 6=conditions 8*=collisionCount"
    ),
    "apps.v1.DeploymentStrategy": "1=type 2*=rollingUpdate",
    "apps.v1.RollingUpdateDeployment": "1*=maxUnavailable 2*=maxSurge",
    "authentication.v1.BoundObjectReference": "1=kind 2=apiVersion 3=name 4=uid",
    "authentication.v1.SelfSubjectReview": "1=metadata 2=status",
    "authentication.v1.SelfSubjectReviewStatus": "1=userInfo",
    "authentication.v1.TokenRequest": "1=metadata 2=spec 3=status",
    "authentication.v1.TokenRequestSpec": "1=audiences 4*=expirationSeconds 3*=boundObjectRef 5=attestations",
    "authentication.v1.TokenRequestStatus": "1=token 2=expirationTimestamp",
    "authentication.v1.UserInfo": "1=username 2=uid 3=groups 4=extra",
    "authorization.v1.FieldSelectorAttributes": "1=rawSelector 2=requirements",
    "authorization.v1.LabelSelectorAttributes": "1=rawSelector 2=requirements",
    "authorization.v1.NonResourceAttributes": "1=path 2=verb",
    "authorization.v1.ResourceAttributes": (
        "1=namespace 2=verb 3=group 4=version 5=resource 6=subresource 7=name 8*=fieldSelector 9*=labelSelector"
    ),
    "authorization.v1.SelfSubjectAccessReview": "1=metadata 2=spec 3=status",
    "authorization.v1.SelfSubjectAccessReviewSpec": "1*=resourceAttributes 2*=nonResourceAttributes",
    "authorization.v1.SubjectAccessReviewStatus": "1=allowed 4=denied 2=reason 3=evaluationError",
    "core.v1.AWSElasticBlockStoreVolumeSource": "1=volumeID 2=fsType 3=partition 4=readOnly",
    "core.v1.Affinity": "1*=nodeAffinity 2*=podAffinity 3*=podAntiAffinity",
    "core.v1.AppArmorProfile": "1=type 2*=localhostProfile",
    "core.v1.AzureDiskVolumeSource": "1=diskName 2=diskURI 3*=cachingMode 4*=fsType 5*=readOnly 6*=kind",
    "core.v1.AzureFileVolumeSource": "1=secretName 2=shareName 3=readOnly",
    "core.v1.CSIVolumeSource": "1=driver 2*=readOnly 3*=fsType 4=volumeAttributes 5*=nodePublishSecretRef",
    "core.v1.Capabilities": "1=add 2=drop",
    "core.v1.CephFSVolumeSource": "1=monitors 2=path 3=user 4=secretFile 5*=secretRef 6=readOnly",
    "core.v1.CinderVolumeSource": "1=volumeID 2=fsType 3=readOnly 4*=secretRef",
    "core.v1.ClientIPConfig": "1*=timeoutSeconds",
    "core.v1.ClusterTrustBundleProjection": "1*=name 2*=signerName 3*=labelSelector 5*=optional 4=path 6*=user",
    "core.v1.ConfigMap": "1=metadata 4*=immutable 2=data 3=binaryData",
    "core.v1.ConfigMapEnvSource": "1>core.v1.LocalObjectReference 2*=optional",
    "core.v1.ConfigMapKeySelector": "1>core.v1.LocalObjectReference 2=key 3*=optional",
    "core.v1.ConfigMapProjection": "1>core.v1.LocalObjectReference 2=items 4*=optional",
    "core.v1.ConfigMapVolumeSource": "1>core.v1.LocalObjectReference 2=items 3*=defaultMode 4*=optional 5*=defaultUser",
    "core.v1.Container": (
        "1=name 2=image 3=command 4=args 5=workingDir 6=ports 19=envFrom 7=env 8=resources 23=resizePolicy "
        "24*=restartPolicy 25=restartPolicyRules 9=volumeMounts 21=volumeDevices 10*=livenessProbe "
        "11*=readinessProbe 22*=startupProbe 12*=lifecycle 13=terminationMessagePath 20=terminationMessagePolicy "
        "14=imagePullPolicy 15*=securityContext 16=stdin 17=stdinOnce 18=tty"
    ),
    "core.v1.ContainerPort": "1=name 2=hostPort 3=containerPort 4=protocol 5=hostIP",
    "core.v1.ContainerResizePolicy": "1=resourceName 2=restartPolicy",
    "core.v1.ContainerRestartRule": "1=action 2*=exitCodes",
    "core.v1.ContainerRestartRuleOnExitCodes": "1=operator 2=values",
    "core.v1.DownwardAPIProjection": "1=items",
    "core.v1.DownwardAPIVolumeFile": "1=path 2*=fieldRef 3*=resourceFieldRef 4*=mode 5*=user",
    "core.v1.DownwardAPIVolumeSource": "1=items 2*=defaultMode 3*=defaultUser",
    "core.v1.EmptyDirVolumeSource": "1=medium 2*=sizeLimit 3*=mode",
    "core.v1.EnvFromSource": "1=prefix 2*=configMapRef 3*=secretRef",
    "core.v1.EnvVar": "1=name 2=value 3*=valueFrom",
    "core.v1.EnvVarSource": "1*=fieldRef 2*=resourceFieldRef 3*=configMapKeyRef 4*=secretKeyRef 5*=fileKeyRef",
    "core.v1.EphemeralContainer": "1>core.v1.EphemeralContainerCommon 2=targetContainerName",
    "core.v1.EphemeralContainerCommon": (
        "1=name 2=image 3=command 4=args 5=workingDir 6=ports 19=envFrom 7=env 8=resources 23=resizePolicy "
        "24*=restartPolicy 25=restartPolicyRules 9=volumeMounts 21=volumeDevices 10*=livenessProbe "
        "11*=readinessProbe 22*=startupProbe 12*=lifecycle 13=terminationMessagePath 20=terminationMessagePolicy "
        "14=imagePullPolicy 15*=securityContext 16=stdin 17=stdinOnce 18=tty"
    ),
    "core.v1.EphemeralVolumeSource": "1*=volumeClaimTemplate",
    "core.v1.EvictionResponder": "1=name 2*=priority",
    "core.v1.ExecAction": "1=command",
    "core.v1.FCVolumeSource": "1=targetWWNs 2*=lun 3=fsType 4=readOnly 5=wwids",
    "core.v1.FileKeySelector": "1=volumeName 2=path 3=key 4*=optional",
    "core.v1.FlexVolumeSource": "1=driver 2=fsType 3*=secretRef 4=readOnly 5=options",
    "core.v1.FlockerVolumeSource": "1=datasetName 2=datasetUUID",
    "core.v1.GCEPersistentDiskVolumeSource": "1=pdName 2=fsType 3=partition 4=readOnly",
    "core.v1.GRPCAction": "1=port 2*=service 3*=mode",
    "core.v1.GitRepoVolumeSource": "1=repository 2=revision 3=directory",
    "core.v1.GlusterfsVolumeSource": "1=endpoints 2=path 3=readOnly",
    "core.v1.HTTPGetAction": "1=path 2=port 3=host 4=scheme 5=httpHeaders 6*=protocol",
    "core.v1.HTTPHeader": "1=name 2=value",
    "core.v1.HostAlias": "1=ip 2=hostnames",
    "core.v1.HostPathVolumeSource": "1=path 2*=type",
    "core.v1.ISCSIVolumeSource": (
        "1=targetPortal 2=iqn 3=lun 4=iscsiInterface 5=fsType 6=readOnly 7=portals 8=chapAuthDiscovery "
        "11=chapAuthSession 10*=secretRef 12*=initiatorName"
    ),
    "core.v1.ImageVolumeSource": "1=reference 2=pullPolicy",
    "core.v1.KeyToPath": "1=key 2=path 3*=mode 4*=user",
    "core.v1.Lifecycle": "1*=postStart 2*=preStop 3*=stopSignal",
    "core.v1.LifecycleHandler": "1*=exec 2*=httpGet 3*=tcpSocket 4*=sleep",
    "core.v1.LoadBalancerIngress": "1=ip 2=hostname 3*=ipMode 4=ports",
    "core.v1.LoadBalancerStatus": "1=ingress",
    "core.v1.LocalObjectReference": "1=name",
    "core.v1.NFSVolumeSource": "1=server 2=path 3=readOnly",
    "core.v1.Namespace": "1=metadata 2=spec 3=status",
    "core.v1.NamespaceCondition": "1=type 2=status 4=lastTransitionTime 5=reason 6=message",
    "core.v1.NamespaceSpec": "1=finalizers",
    "core.v1.NamespaceStatus": "1=phase 2=conditions",
    "core.v1.NodeAffinity": (
        "1*=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution"
    ),
    "core.v1.NodeSelector": "1=nodeSelectorTerms",
    "core.v1.NodeSelectorRequirement": "1=key 2=operator 3=values",
    "core.v1.NodeSelectorTerm": "1=matchExpressions 2=matchFields",
    "core.v1.ObjectFieldSelector": "1=apiVersion 2=fieldPath",
    "core.v1.ObjectReference": "1=kind 2=namespace 3=name 4=uid 5=apiVersion 6=resourceVersion 7=fieldPath",
    "core.v1.PersistentVolumeClaimSpec": (
        "1=accessModes 4*=selector 2=resources 3=volumeName 5*=storageClassName 6*=volumeMode 7*=dataSource "
        "8*=dataSourceRef 9*=volumeAttributesClassName"
    ),
    "core.v1.PersistentVolumeClaimTemplate": "1=metadata 2=spec",
    "core.v1.PersistentVolumeClaimVolumeSource": "1=claimName 2=readOnly",
    "core.v1.PhotonPersistentDiskVolumeSource": "1=pdID 2=fsType",
    "core.v1.PodAffinity": (
        "1=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution"
    ),
    "core.v1.PodAffinityTerm": (
        "1*=labelSelector 2=namespaces 3=topologyKey 4*=namespaceSelector 5=matchLabelKeys 6=mismatchLabelKeys"
    ),
    "core.v1.PodAntiAffinity": (
        "1=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution"
    ),
    "core.v1.PodCertificateProjection": (
        "1=signerName 2=keyType 3*=maxExpirationSeconds 4=credentialBundlePath 5=keyPath 6=certificateChainPath "
        "7=userAnnotations 8*=user"
    ),
    "core.v1.PodDNSConfig": "1=nameservers 2=searches 3=options",
    "core.v1.PodDNSConfigOption": "1=name 2*=value",
    "core.v1.PodOS": "1=name",
    "core.v1.PodReadinessGate": "1=conditionType",
    "core.v1.PodResourceClaim": "1=name 3*=resourceClaimName 4*=resourceClaimTemplateName",
    "core.v1.PodSchedulingGate": "1=name",
    "core.v1.PodSchedulingGroup": "1*=podGroupName",
    "core.v1.PodSecurityContext": (
        "1*=seLinuxOptions 8*=windowsOptions 2*=runAsUser 6*=runAsGroup 3*=runAsNonRoot 4=supplementalGroups "
        "12*=supplementalGroupsPolicy 5*=fsGroup 7=sysctls 9*=fsGroupChangePolicy 10*=seccompProfile "
        "11*=appArmorProfile 13*=seLinuxChangePolicy"
    ),
    "core.v1.PodSpec": (
        "1=volumes 20=initContainers 2=containers 34=ephemeralContainers 3=restartPolicy "
        "4*=terminationGracePeriodSeconds 5*=activeDeadlineSeconds 6=dnsPolicy 7=nodeSelector 8=serviceAccountName "
        "9=serviceAccount 21*=automountServiceAccountToken 10=nodeName 11=hostNetwork 12=hostPID 13=hostIPC "
        "27*=shareProcessNamespace 14*=securityContext 15=imagePullSecrets 16=hostname 17=subdomain 18*=affinity "
        "19=schedulerName 22=tolerations 23=hostAliases 24=priorityClassName 25*=priority 26*=dnsConfig "
        "28=readinessGates 29*=runtimeClassName 30*=enableServiceLinks 31*=preemptionPolicy 32=overhead "
        "33=topologySpreadConstraints 35*=setHostnameAsFQDN 36*=os 37*=hostUsers 38=schedulingGates "
        "39=resourceClaims 40*=resources 41*=hostnameOverride 43*=schedulingGroup 44=evictionResponders"
    ),
    "core.v1.PodTemplateSpec": "1=metadata 2=spec",
    "core.v1.PortStatus": "1=port 2=protocol 3*=error",
    "core.v1.PortworxVolumeSource": "1=volumeID 2=fsType 3=readOnly",
    "core.v1.PreferredSchedulingTerm": "1=weight 2=preference",
    "core.v1.Probe": (
        "1>core.v1.ProbeHandler 2=initialDelaySeconds 3=timeoutSeconds 4=periodSeconds 5=successThreshold "
        "6=failureThreshold 7*=terminationGracePeriodSeconds"
    ),
    "core.v1.ProbeHandler": "1*=exec 2*=httpGet 3*=tcpSocket 4*=grpc",
    "core.v1.ProjectedVolumeSource": "1=sources 2*=defaultMode 3*=defaultUser",
    "core.v1.QuobyteVolumeSource": "1=registry 2=volume 3=readOnly 4=user 5=group 6=tenant",
    "core.v1.RBDVolumeSource": "1=monitors 2=image 3=fsType 4=pool 5=user 6=keyring 7*=secretRef 8=readOnly",
    "core.v1.ResourceClaim": "1=name 2=request",
    "core.v1.ResourceFieldSelector": "1=containerName 2=resource 3=divisor",
    "core.v1.ResourceRequirements": "1=limits 2=requests 3=claims",
    "core.v1.SELinuxOptions": "1=user 2=role 3=type 4=level",
    "core.v1.ScaleIOVolumeSource": (
        "1=gateway 2=system 3*=secretRef 4=sslEnabled 5=protectionDomain 6=storagePool 7=storageMode 8=volumeName "
        "9=fsType 10=readOnly"
    ),
    "core.v1.SeccompProfile": "1=type 2*=localhostProfile",
    "core.v1.Secret": "1=metadata 5*=immutable 2=data 4=stringData 3=type",
    "core.v1.SecretEnvSource": "1>core.v1.LocalObjectReference 2*=optional",
    "core.v1.SecretKeySelector": "1>core.v1.LocalObjectReference 2=key 3*=optional",
    "core.v1.SecretProjection": "1>core.v1.LocalObjectReference 2=items 4*=optional",
    "core.v1.SecretVolumeSource": "1=secretName 2=items 3*=defaultMode 4*=optional 5*=defaultUser",
    "core.v1.SecurityContext": (
        "1*=capabilities 2*=privileged 3*=seLinuxOptions 10*=windowsOptions 4*=runAsUser 8*=runAsGroup "
        "5*=runAsNonRoot 6*=readOnlyRootFilesystem 7*=allowPrivilegeEscalation 9*=procMount 11*=seccompProfile "
        "12*=appArmorProfile"
    ),
    "core.v1.Service": "1=metadata 2=spec 3=status",
    "core.v1.ServiceAccount": "1=metadata 2=secrets 3=imagePullSecrets 4*=automountServiceAccountToken",
    "core.v1.ServiceAccountTokenProjection": "1=audience 2*=expirationSeconds 3=path 4*=user",
    "core.v1.ServicePort": "1=name 2=protocol 6*=appProtocol 3=port 4=targetPort 5=nodePort",
    "core.v1.ServiceSpec": (
        "1=ports 2=selector 3=clusterIP 18=clusterIPs 4=type 5=externalIPs 7=sessionAffinity 8=loadBalancerIP "
        "9=loadBalancerSourceRanges 10=externalName 11=externalTrafficPolicy 12=healthCheckNodePort "
        "13=publishNotReadyAddresses 14*=sessionAffinityConfig 19=ipFamilies 17*=ipFamilyPolicy "
        "20*=allocateLoadBalancerNodePorts 21*=loadBalancerClass 22*=internalTrafficPolicy 23*=trafficDistribution"
    ),
    "core.v1.ServiceStatus": "1=loadBalancer 2=conditions",
    "core.v1.SessionAffinityConfig": "1*=clientIP",
    "core.v1.SleepAction": "1=seconds",
    "core.v1.StorageOSVolumeSource": "1=volumeName 2=volumeNamespace 3=fsType 4=readOnly 5*=secretRef",
    "core.v1.Sysctl": "1=name 2=value",
    "core.v1.TCPSocketAction": "1=port 2=host",
    "core.v1.Toleration": "1=key 2=operator 3=value 4=effect 5*=tolerationSeconds",
    "core.v1.TopologySpreadConstraint": (
        "1=maxSkew 2=topologyKey 3=whenUnsatisfiable 4*=labelSelector 5*=minDomains 6*=nodeAffinityPolicy "
        "7*=nodeTaintsPolicy 8=matchLabelKeys"
    ),
    "core.v1.TypedLocalObjectReference": "1*=apiGroup 2=kind 3=name",
    "core.v1.TypedObjectReference": "1*=apiGroup 2=kind 3=name 4*=namespace",
    "core.v1.Volume": "1=name 2>core.v1.VolumeSource",
    "core.v1.VolumeDevice": "1=name 2=devicePath",
    "core.v1.VolumeMount": (
        "1=name 2=readOnly 7*=recursiveReadOnly 3=mountPath 4=subPath 5*=mountPropagation 6=subPathExpr "
        "8=bindMountOptions"
    ),
    "core.v1.VolumeProjection": (
        "1*=secret 2*=downwardAPI 3*=configMap 4*=serviceAccountToken 5*=clusterTrustBundle 6*=podCertificate"
    ),
    "core.v1.VolumeResourceRequirements": "1=limits 2=requests",
    "core.v1.VolumeSource": (
        "1*=hostPath 2*=emptyDir 3*=gcePersistentDisk 4*=awsElasticBlockStore 5*=gitRepo 6*=secret 7*=nfs 8*=iscsi "
        "9*=glusterfs 10*=persistentVolumeClaim 11*=rbd 12*=flexVolume 13*=cinder 14*=cephfs 15*=flocker "
        "16*=downwardAPI 17*=fc 18*=azureFile 19*=configMap 20*=vsphereVolume 21*=quobyte 22*=azureDisk "
        "23*=photonPersistentDisk 26*=projected 24*=portworxVolume 25*=scaleIO 27*=storageos 28*=csi 29*=ephemeral "
        "30*=image"
    ),
    "core.v1.VsphereVirtualDiskVolumeSource": "1=volumePath 2=fsType 3=storagePolicyName 4=storagePolicyID",
    "core.v1.WeightedPodAffinityTerm": "1=weight 2=podAffinityTerm",
    "core.v1.WindowsSecurityContextOptions": (
        "1*=gmsaCredentialSpecName 2*=gmsaCredentialSpec 3*=runAsUserName 4*=hostProcess"
    ),
    "meta.v1.Condition": "1=type 2=status 3=observedGeneration 4=lastTransitionTime 5=reason 6=message",
    "meta.v1.FieldSelectorRequirement": "1=key 2=operator 3=values",
    "meta.v1.LabelSelector": "1=matchLabels 2=matchExpressions",
    "meta.v1.LabelSelectorRequirement": "1=key 2=operator 3=values",
    "meta.v1.ManagedFieldsEntry": "1=manager 2=operation 3=apiVersion 4*=time 6=fieldsType 7*=fieldsV1 8=subresource",
    "meta.v1.ObjectMeta": (
        "1=name 2=generateName 3=namespace 4=selfLink 5=uid 6=resourceVersion 7=generation 8=creationTimestamp "
        "9*=deletionTimestamp 10*=deletionGracePeriodSeconds 11=labels 12=annotations 13=ownerReferences "
        "14=finalizers 17=managedFields"
    ),
    "meta.v1.OwnerReference": "5=apiVersion 1=kind 3=name 4=uid 6*=controller 7*=blockOwnerDeletion",
}
