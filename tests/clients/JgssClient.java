import java.io.BufferedInputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import org.ietf.jgss.GSSContext;
import org.ietf.jgss.GSSManager;
import org.ietf.jgss.GSSName;
import org.ietf.jgss.Oid;

/** Fetches a URL by JGSS: URL, file of the certificate authority, mechanism (spnego or kerberos). */
public final class JgssClient {
    public static void main(String[] arguments) throws Exception {
        String mechanism = arguments[2].equals("spnego") ? "1.3.6.1.5.5.2" : "1.2.840.113554.1.2.2";
        GSSManager manager = GSSManager.getInstance();
        GSSName service = manager.createName("HTTP@localhost", GSSName.NT_HOSTBASED_SERVICE);
        GSSContext context =
                manager.createContext(service, new Oid(mechanism), null, GSSContext.DEFAULT_LIFETIME);
        context.requestMutualAuth(true);
        byte[] token = context.initSecContext(new byte[0], 0, 0);

        HttpRequest request =
                HttpRequest.newBuilder(URI.create(arguments[0]))
                        .header("Authorization", "Negotiate " + Base64.getEncoder().encodeToString(token))
                        .build();
        HttpResponse<String> answer =
                HttpClient.newBuilder()
                        .version(HttpClient.Version.HTTP_1_1)
                        .sslContext(trusting(arguments[1]))
                        .build()
                        .send(request, HttpResponse.BodyHandlers.ofString());
        for (String line : answer.headers().allValues("www-authenticate")) {
            if (line.startsWith("Negotiate ")) {
                byte[] reply = Base64.getDecoder().decode(line.substring("Negotiate ".length()));
                context.initSecContext(reply, 0, reply.length);
            }
        }
        System.out.println(answer.statusCode());
        System.out.println(context.isEstablished() && context.getMutualAuthState());
        System.out.println(answer.headers().firstValue("x-kerbridge-token").orElse(""));
    }

    private static SSLContext trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (BufferedInputStream in = new BufferedInputStream(new FileInputStream(file))) {
            store.setCertificateEntry("lab", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        return tls;
    }
}
