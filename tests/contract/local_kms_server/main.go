// Runs local-kms on loopback: its own command listens on all addresses and has no setting for that.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	kms "github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	config.AWSAccountId = os.Getenv("KMS_ACCOUNT_ID")
	config.AWSRegion = os.Getenv("KMS_REGION")
	config.DatabasePath = os.Getenv("KMS_DATA_PATH")
	database := data.NewDatabase(config.DatabasePath)
	defer database.Close()

	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("started on %s\n", listener.Addr())
	handler := func(w http.ResponseWriter, r *http.Request) { kms.HandleRequest(w, r, database) }
	log.Fatal(http.Serve(listener, http.HandlerFunc(handler)))
}
